"""Plan and handles to QEMU's command line: pure, and the only way one is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.handles import Handles
from qorch.plan import DiskPlan, MachinePlan, NicPlan
from qorch.spec import MachineFamily
from qorch.switch import Switch
from qorch.switch.backend import (
    AddFd,
    Blockdev,
    ChardevSocket,
    Mon,
    NetdevTap,
    ObjectRngRandom,
)
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
from qorch.switch.device import (
    DeviceIsaSerial,
    DevicePcieRootPort,
    DeviceVirtioBalloon,
    DeviceVirtioBlk,
    DeviceVirtioNet,
    DeviceVirtioRng,
    Transport,
)
from qorch_storage.plan import Backing, ImageFormat

_LOG_SET = 1


def make_argv(plan: MachinePlan, handles: Handles, qemu: Path) -> tuple[str, ...]:
    """The words that start this machine, paused (`-S`)."""
    words = [str(qemu)]
    for switch in make_switches(plan, handles):
        words += switch.args()
    return tuple(words)


def make_switches(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """The switches in the order QEMU needs: back ends before front ends, buses before devices."""
    yield from _base(plan)
    yield from _monitors(handles)
    yield from (DevicePcieRootPort(port=port) for port in plan.ports)
    yield from _console(handles)
    for disk in plan.disks:
        yield from _disk(plan, disk)
    if plan.seed is not None:
        image = Backing(path=plan.seed.path, format=ImageFormat.RAW)
        seed = DiskPlan(id="seed", chain=(image,), read_only=True, bus=plan.seed.bus)
        yield from _disk(plan, seed)
    for nic in plan.nics:
        yield from _nic(plan, nic, handles.taps[nic.id])
    yield from _helpers(plan)


def _transport(plan: MachinePlan) -> Transport:
    return Transport.MMIO if plan.machine.family is MachineFamily.MICROVM else Transport.PCI


def _base(plan: MachinePlan) -> Iterator[Switch]:
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


def _monitors(handles: Handles) -> Iterator[Switch]:
    """One for qorch, one left free for people and tools."""
    for id_, fd in (("qmp", handles.qmp), ("monitor", handles.monitor)):
        yield ChardevSocket(id=id_, fd=fd)
        yield Mon(chardev=id_)


def _console(handles: Handles) -> Iterator[Switch]:
    yield AddFd(fd=handles.console_log, set=_LOG_SET)
    yield ChardevSocket(
        id="console",
        fd=handles.console,
        logfile=Path(f"/dev/fdset/{_LOG_SET}"),
        logappend=True,
    )
    yield DeviceIsaSerial(id="serial0", chardev="console")


def _disk(plan: MachinePlan, disk: DiskPlan) -> Iterator[Switch]:
    """The chain from the bottom up, each image a node of its own; only the top is written to."""
    names = [
        disk.id if depth == 0 else f"{disk.id}-base{depth}" for depth in range(len(disk.chain))
    ]
    for depth, image in reversed(list(enumerate(disk.chain))):
        yield Blockdev(
            node_name=names[depth],
            driver=image.format,
            filename=image.path,
            read_only=disk.read_only or depth > 0,
            backing=names[depth + 1] if depth + 1 < len(names) else None,
            discard="unmap",
        )
    yield DeviceVirtioBlk(
        transport=_transport(plan),
        id=f"{disk.id}-dev",
        drive=disk.id,
        bus=disk.bus,
        serial=disk.serial,
        bootindex=disk.bootindex,
    )


def _nic(plan: MachinePlan, nic: NicPlan, fd: int) -> Iterator[Switch]:
    transport = _transport(plan)
    yield NetdevTap(id=nic.id, fd=fd)
    yield DeviceVirtioNet(
        transport=transport,
        id=f"{nic.id}-dev",
        netdev=nic.id,
        mac=nic.mac,
        bus=nic.bus,
        romfile="" if transport is Transport.PCI else None,
    )


def _helpers(plan: MachinePlan) -> Iterator[Switch]:
    transport = _transport(plan)
    if plan.rng:
        yield ObjectRngRandom(id="rng0")
        yield DeviceVirtioRng(transport=transport, id="rng0-dev", rng="rng0", bus=plan.rng_bus)
    if plan.balloon:
        yield DeviceVirtioBalloon(transport=transport, id="balloon0", bus=plan.balloon_bus)
