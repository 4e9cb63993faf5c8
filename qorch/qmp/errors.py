"""What can go wrong on a monitor. Compare by class, never by text."""

from __future__ import annotations

import attrs

from qorch.errors import QorchError


@attrs.define(eq=False)
class QmpError(QorchError):
    """The root of all errors of QMP."""


@attrs.define(eq=False)
class ConnectError(QmpError):
    """Nobody answers at the monitor's socket, or its queue of waiting clients is full."""


@attrs.define(eq=False)
class MonitorLostError(QmpError):
    """The connection is gone; `command` was in flight, and whether QEMU did it is not known."""

    command: str | None = None


@attrs.define(eq=False)
class ProtocolError(MonitorLostError):
    """The peer sent `line`, which is not QMP or not its turn; the connection is given up."""

    line: bytes = attrs.field(default=b"", repr=False)


@attrs.define(eq=False)
class EventsLostError(QmpError):
    """This listener did not read and missed `count` events here; reading on is possible."""

    count: int = 0


@attrs.define(eq=False)
class CommandError(QmpError):
    """QEMU refused `command`; `error_class` is QEMU's own word for why."""

    command: str = ""
    error_class: str = "GenericError"

    @classmethod
    def from_reply(cls, command: str, error_class: str, text: str) -> CommandError:
        """Choose the subclass by QEMU's error class; one we do not know stays a CommandError."""
        chosen = _BY_CLASS.get(error_class, CommandError)
        return chosen(f"{command}: {text}", None, command, error_class)


@attrs.define(eq=False)
class CommandNotFoundError(CommandError):
    """This QEMU has no such command, or does not allow it at this time."""


@attrs.define(eq=False)
class DeviceNotActiveError(CommandError):
    """The device is there but not in use, or the job is not running."""


@attrs.define(eq=False)
class DeviceNotFoundError(CommandError):
    """There is no device, node or job of that id."""


@attrs.define(eq=False)
class KVMMissingCapError(CommandError):
    """The host's KVM lacks what the command needs."""


# QapiErrorClass in qapi/error.json, complete since QEMU 1.2
_BY_CLASS: dict[str, type[CommandError]] = {
    "CommandNotFound": CommandNotFoundError,
    "DeviceNotActive": DeviceNotActiveError,
    "DeviceNotFound": DeviceNotFoundError,
    "KVMMissingCap": KVMMissingCapError,
}
