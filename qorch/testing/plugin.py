"""The pytest plugin: the `qorch_host` fixture and the `needs_kvm` marker.

Loaded in every pytest run of an environment that has qorch: it imports the rest when a test asks.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qorch.testing.host import Host

_FIXTURE = "qorch_host"


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest about our marker."""
    config.addinivalue_line(
        "markers",
        "needs_kvm(real_mode=False): skip without KVM that runs any guest; with real_mode=True,"
        " one that opens will do",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs KVM where there is none, and say why."""
    marker = item.get_closest_marker("needs_kvm")
    if marker is None:
        return
    from qorch.probe import find_kvm  # noqa: PLC0415

    kvm = find_kvm()
    if kvm.error is not None:
        pytest.skip(kvm.error)
    if not kvm.hardware and not marker.kwargs.get("real_mode"):
        pytest.skip("the CPU has neither vmx nor svm: this KVM runs real-mode guests only")


@pytest.fixture
def qorch_host() -> Iterator[Host]:
    """A host of its own for this test: network namespace, state directory, supervisor."""
    if os.geteuid():
        pytest.skip("a network namespace of its own needs root")
    from qorch.testing.host import open_host  # noqa: PLC0415

    with open_host() as host:
        yield host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Show the serial console, the QMP transcript and the logs of a test that failed."""
    report = yield
    host = getattr(item, "funcargs", {}).get(_FIXTURE)
    if call.when == "call" and report.failed and host is not None:
        for name, text in host.find_logs().items():
            report.sections.append((f"qorch {name}", text))
    return report
