"""qorch's own console, serial and parallel ports, channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.argv.chardev import make_chardev
from qorch.handles import CONSOLE, CONSOLE_LOG, Handles
from qorch.plan import MachinePlan
from qorch.switch import Switch
from qorch.switch.backend import AddFd
from qorch.switch.chardev import ChardevSocket
from qorch.switch.port import DeviceIsaParallel, DeviceSerial, DeviceVirtserialport


def make_console(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """Qorch's own port, logged by QEMU itself."""
    if not plan.console.is_there:
        return
    log = handles[CONSOLE_LOG]
    yield AddFd(fd=log, set=log)
    yield ChardevSocket(
        id="console",
        fd=handles[CONSOLE],
        logfile=Path(f"/dev/fdset/{log}"),
        logappend=True,
    )
    yield DeviceSerial(
        model=plan.console.spec.device.value,
        id="console-dev",
        place=plan.console.place,
        chardev="console",
    )


def make_ports(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """The guest's further ports, each on its back end."""
    for serial in plan.serials:
        yield from make_chardev(serial.id, serial.spec.backend, handles)
        yield DeviceSerial(
            model=serial.spec.model.value,
            id=f"{serial.id}-dev",
            place=serial.place,
            chardev=serial.id,
        )
    for parallel in plan.parallels:
        yield from make_chardev(parallel.id, parallel.spec.backend, handles)
        yield DeviceIsaParallel(id=f"{parallel.id}-dev", place=parallel.place, chardev=parallel.id)
    for channel in plan.channels:
        yield from make_chardev(channel.id, channel.spec.backend, handles)
        yield DeviceVirtserialport(
            id=f"{channel.id}-dev",
            place=channel.place,
            chardev=channel.id,
            name=channel.spec.name,
        )
