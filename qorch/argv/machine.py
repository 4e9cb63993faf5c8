"""The machine itself, its monitors and its console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.handles import Handles
from qorch.plan import MachinePlan
from qorch.spec import MachineFamily
from qorch.switch import Switch
from qorch.switch.backend import AddFd, ChardevSocket, Mon
from qorch.switch.base import (
    Accelerator,
    Boot,
    Cpu,
    DirectBoot,
    Display,
    Flag,
    Machine,
    Memory,
    NameSwitch,
    Smp,
    Uuid,
)
from qorch.switch.device import DeviceIsaSerial

_LOG_SET = 1


def make_base(plan: MachinePlan) -> Iterator[Switch]:
    """From `-name` to what is booted."""
    yield NameSwitch(guest=plan.name)
    yield Flag(name="nodefaults")
    yield Flag(name="no-user-config")
    yield Display()
    yield Flag(name="S")
    yield _machine(plan)
    yield Accelerator(accel=plan.accel)
    yield Cpu(model=plan.cpu_model)
    yield Smp(cpus=plan.cpus)
    yield Memory(size=plan.memory)
    yield Uuid(uuid=plan.uuid)
    if plan.kernel is not None:
        yield DirectBoot(kernel=plan.kernel, initrd=plan.initrd, append=plan.append)
    elif plan.machine.family is not MachineFamily.MICROVM:
        yield Boot()


def _machine(plan: MachinePlan) -> Machine:
    """A microvm has ACPI for its power button, and an RTC because guests ask for the time."""
    if plan.machine.family is MachineFamily.MICROVM:
        return Machine(type=plan.machine, acpi=True, rtc=True)
    return Machine(type=plan.machine)


def make_monitors(handles: Handles) -> Iterator[Switch]:
    """One for qorch, one left free for people and tools."""
    for id_, fd in (("qmp", handles.qmp), ("monitor", handles.monitor)):
        yield ChardevSocket(id=id_, fd=fd)
        yield Mon(chardev=id_)


def make_console(handles: Handles) -> Iterator[Switch]:
    """The first serial port, logged by QEMU itself."""
    yield AddFd(fd=handles.console_log, set=_LOG_SET)
    yield ChardevSocket(
        id="console",
        fd=handles.console,
        logfile=Path(f"/dev/fdset/{_LOG_SET}"),
        logappend=True,
    )
    yield DeviceIsaSerial(id="serial0", chardev="console")
