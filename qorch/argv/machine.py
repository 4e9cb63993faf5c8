"""The machine itself, its monitors and its console."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from qorch.argv.firmware import name_flash
from qorch.argv.memory import make_memory, name_whole_memory
from qorch.handles import MONITOR, QMP, Handles
from qorch.plan import MachinePlan
from qorch.spec import (
    Accel,
    ClockSpec,
    MachineFamily,
    MemoryDeviceModel,
    RebootAction,
    SoundModel,
    TickPolicy,
)
from qorch.switch import Switch
from qorch.switch.backend import Mon
from qorch.switch.base import (
    Accelerator,
    Action,
    Boot,
    DirectBoot,
    Flag,
    Global,
    Incoming,
    Machine,
    NameSwitch,
    Overcommit,
    Rtc,
    Sandbox,
    Uuid,
    Words,
)
from qorch.switch.chardev import ChardevSocket
from qorch.switch.cpu import Cpu, DeviceCpu, ObjectIothread, Smp
from qorch.switch.object import ObjectConfidential

_CONFIDENTIAL = "confidential"
_ISA_BRIDGES = {MachineFamily.PC: "PIIX4_PM", MachineFamily.Q35: "ICH9-LPC"}


def make_base(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """From `-name` to what is booted."""
    yield NameSwitch(guest=plan.title or plan.name)
    yield Flag(name="nodefaults")
    yield Flag(name="no-user-config")
    yield Flag(name="S")
    if handles.incoming:
        yield Incoming()
    if plan.sandbox:
        yield Sandbox()
    yield from _confidential(plan)
    yield _machine(plan)
    yield Accelerator(
        accel=plan.accel,
        dirty_ring_size=plan.features.dirty_ring_size,
        tb_size=plan.features.tb_size,
    )
    yield Cpu(model=plan.cpu.model, features=plan.cpu.features)
    yield _smp(plan)
    yield from make_memory(plan)
    yield from _overcommit(plan)
    yield Uuid(uuid=plan.uuid)
    yield from _clock(plan.clock, handles.now)
    yield from _globals(plan)
    yield from _boot(plan)
    if plan.on_reboot is not RebootAction.RESET or plan.on_panic is not None:
        reboot = None if plan.on_reboot is RebootAction.RESET else plan.on_reboot
        yield Action(reboot=reboot, panic=plan.on_panic)


def _confidential(plan: MachinePlan) -> Iterator[Switch]:
    if plan.confidential is not None:
        spec = plan.confidential
        yield ObjectConfidential(
            id=_CONFIDENTIAL,
            qom_type=spec.type.value,
            dh_cert_file=spec.dh_cert_file,
            session_file=spec.session_file,
            more=dict(spec.properties),
        )


def _machine(plan: MachinePlan) -> Machine:
    """A microvm has ACPI for its power button, and an RTC because guests ask for the time."""
    features = plan.features
    microvm = plan.machine.family is MachineFamily.MICROVM
    flash = name_flash(plan)
    nvdimm = any(item.spec.model is MemoryDeviceModel.NVDIMM for item in plan.memory.devices)
    return Machine(
        type=plan.machine,
        acpi=True if microvm and features.acpi is None else features.acpi,
        rtc=True if microvm else None,
        hpet=features.hpet,
        smm=True if plan.firmware.smm and features.smm is None else features.smm,
        vmport=features.vmport,
        i8042=features.i8042,
        pic=features.pic,
        pit=features.pit,
        hmat=features.hmat,
        nvdimm=nvdimm or None,
        kernel_irqchip=features.kernel_irqchip or _irqchip(plan),
        dump_guest_core=features.dump_guest_core,
        mem_merge=features.mem_merge,
        pflash0=flash.pflash0,
        pflash1=flash.pflash1,
        memory_backend=name_whole_memory(plan),
        confidential_guest_support=_CONFIDENTIAL if plan.confidential else None,
        pcspk_audiodev=next(
            (item.audio for item in plan.sounds if item.spec.model is SoundModel.PCSPK), None
        ),
        options=features.options,
    )


def _irqchip(plan: MachinePlan) -> str | None:
    """An IOMMU that remaps interrupts has to see them, under KVM too (hw/i386/intel_iommu.c)."""
    remaps = plan.iommu is not None and plan.iommu.spec.intremap
    return "split" if remaps and plan.accel is Accel.KVM else None


def _smp(plan: MachinePlan) -> Smp:
    spec = plan.cpu.spec
    return Smp(
        cpus=spec.count,
        maxcpus=spec.max,
        sockets=spec.sockets,
        dies=spec.dies,
        clusters=spec.clusters,
        cores=spec.cores,
        threads=spec.threads,
    )


def _overcommit(plan: MachinePlan) -> Iterator[Switch]:
    if plan.memory.spec.locked or plan.features.cpu_pm is not None:
        yield Overcommit(mem_lock=plan.memory.spec.locked or None, cpu_pm=plan.features.cpu_pm)


def _clock(clock: ClockSpec, now: int) -> Iterator[Switch]:
    """An offset makes the base a time of its own, which goes on from there."""
    base = clock.base
    if clock.offset is not None:
        start = datetime.fromtimestamp(now, UTC) + timedelta(seconds=clock.offset)
        base = f"{start:%Y-%m-%dT%H:%M:%S}"
    if clock.catchup or clock.source is not None or base != "utc":
        driftfix = "slew" if clock.catchup else None
        yield Rtc(base=base, clock=clock.source, driftfix=driftfix)


def _globals(plan: MachinePlan) -> Iterator[Switch]:
    features = plan.features
    bridge = _ISA_BRIDGES.get(plan.machine.family)
    for state in ("s3", "s4"):
        enabled = getattr(features, state)
        if enabled is not None and bridge is not None:
            yield Global(name=f"{bridge}.disable_{state}", value=int(not enabled))
    if features.tseg is not None:
        yield Global(name="mch.extended-tseg-mbytes", value=features.tseg >> 20)
    if plan.clock.pit_policy is not None:
        policy: TickPolicy = plan.clock.pit_policy
        yield Global(name="kvm-pit.lost_tick_policy", value=policy.value)
    yield from (Global(name=name, value=value) for name, value in features.globals.items())


def _boot(plan: MachinePlan) -> Iterator[Switch]:
    boot = plan.boot
    if plan.kernel is not None:
        yield DirectBoot(kernel=plan.kernel, initrd=plan.initrd, append=plan.append)
    if plan.machine.family is MachineFamily.MICROVM:
        return
    menu = Boot(
        menu=boot.menu,
        strict=boot.strict if plan.kernel is None else None,
        splash=boot.splash,
        splash_time=None if boot.menu_timeout is None else round(boot.menu_timeout * 1000),
        reboot_timeout=None if boot.reboot_timeout is None else round(boot.reboot_timeout * 1000),
    )
    if menu != Boot():
        yield menu


def make_cpu_devices(plan: MachinePlan) -> Iterator[DeviceCpu]:
    """Virtual CPUs that can be unplugged: they are plugged before the guest's first instruction."""
    for index in plan.cpu.spec.plugged:
        socket, die, core, thread = plan.cpu.locate(index)
        yield DeviceCpu(
            model=plan.cpu.model,
            id=f"vcpu{index}",
            socket_id=socket,
            die_id=die,
            core_id=core,
            thread_id=thread,
        )


def make_iothreads(plan: MachinePlan) -> Iterator[Switch]:
    """Threads for disks to do their I/O in."""
    for thread in plan.iothreads:
        yield ObjectIothread(
            id=thread.id,
            poll_max_ns=thread.poll_max_ns,
            poll_grow=thread.poll_grow,
            poll_shrink=thread.poll_shrink,
            thread_pool_min=thread.thread_pool_min,
            thread_pool_max=thread.thread_pool_max,
        )


def make_monitors(handles: Handles) -> Iterator[Switch]:
    """One for qorch, one left free for people and tools."""
    for id_, fd in ((QMP, handles[QMP]), (MONITOR, handles[MONITOR])):
        yield ChardevSocket(id=id_, fd=fd)
        yield Mon(chardev=id_)


def make_own_words(plan: MachinePlan) -> Iterator[Switch]:
    """What the user wrote for what there is no key for."""
    if plan.qemu_args:
        yield Words(words=plan.qemu_args)
