"""QMP, the QEMU Machine Protocol, on trio."""

from qorch.qmp.errors import (
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
from qorch.qmp.listener import Listener
from qorch.qmp.monitor import Monitor, Transcript, open_monitor, run_monitor
from qorch.qmp.session import Event, Failure, Greeting, Reply, Session, State

__all__ = [
    "CommandError",
    "CommandNotFoundError",
    "ConnectError",
    "DeviceNotActiveError",
    "DeviceNotFoundError",
    "Event",
    "EventsLostError",
    "Failure",
    "Greeting",
    "KVMMissingCapError",
    "Listener",
    "Monitor",
    "MonitorLostError",
    "ProtocolError",
    "QmpError",
    "Reply",
    "Session",
    "State",
    "Transcript",
    "open_monitor",
    "run_monitor",
]
