"""The error tree."""

from __future__ import annotations

import pickle

import pytest

from qorch.errors import QorchError
from qorch.qmp import (
    CommandError,
    CommandNotFoundError,
    ConnectError,
    DeviceNotActiveError,
    DeviceNotFoundError,
    EventsLostError,
    KVMMissingCapError,
    MonitorLostError,
    ProtocolError,
    QmpError,
)


@pytest.mark.parametrize(
    ("error_class", "chosen"),
    [
        ("GenericError", CommandError),
        ("CommandNotFound", CommandNotFoundError),
        ("DeviceNotActive", DeviceNotActiveError),
        ("DeviceNotFound", DeviceNotFoundError),
        ("KVMMissingCap", KVMMissingCapError),
        ("OfTheFuture", CommandError),
    ],
)
def test_class_of_a_refusal(error_class, chosen):
    """QEMU's error class chooses ours, and is kept."""
    error = CommandError.from_reply("cont", error_class, "not now")
    assert type(error) is chosen
    assert (error.error_class, error.command, str(error)) == (error_class, "cont", "cont: not now")


@pytest.mark.parametrize(
    "error",
    [
        CommandError.from_reply("cont", "DeviceNotFound", "no"),
        ConnectError("no", "start it"),
        EventsLostError("3 lost", count=3),
        MonitorLostError("gone", command="stop"),
        ProtocolError("garbage", line=b"x"),
    ],
)
def test_errors_travel(error):
    """Every error is one of qorch's and survives pickling."""
    assert isinstance(error, QmpError)
    assert isinstance(error, QorchError)
    assert repr(pickle.loads(pickle.dumps(error))) == repr(error)  # noqa: S301  our own bytes
