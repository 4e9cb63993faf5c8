"""Machines: every identifier, decided from the spec, the host and what is defined already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from uuid import UUID, uuid5

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.cpu import check_pin, plan_cpu
from qorch.plan.files import name_files
from qorch.plan.memory import plan_memory
from qorch.plan.nics import Addresses, plan_nics
from qorch.plan.place import place
from qorch.plan.seed import make_seed_files
from qorch.plan.shares import plan_shares
from qorch.plan.storage import Storage
from qorch.plan.values import Defined, DiskPlan, MachinePlan, Note, SeedPlan
from qorch.spec import Accel, MachineFamily, MachineSpec
from qorch.units import Name
from qorch_net.plan import NetworkPlan

_NAMESPACE = UUID("6f3c9a4e-0d1b-5c57-9a55-2f8f3c1d7b90")  # made up once, for uuid5
_AS_GIVEN = (
    *("kernel", "initrd", "append", "ready", "powerdown_timeout", "guest_agent", "emulator"),
    *("iothreads", "features", "clock", "boot", "smbios", "credentials", "fw_cfg"),
    *("title", "on_reboot", "on_panic", "sandbox", "qemu_args"),
)


def plan_machine(
    name: Name,
    spec: MachineSpec,
    *,
    facts: Facts,
    storage: Storage,
    networks: Mapping[Name, NetworkPlan],
    defined: Defined,
    taken: Addresses,
    problems: list[Problem],
) -> tuple[MachinePlan, list[Note]]:
    """One machine and notes on it; what stands in its way is added to `problems`."""
    kept = defined.machines.get(name)
    uuid = spec.uuid or uuid5(_NAMESPACE, f"{facts.host_id}/{facts.owner}/{name}")
    accel, notes = _choose_accel(name, spec, facts, problems)
    problems += _find_host_problems(name, spec, facts)
    for index, thread in enumerate(spec.iothreads):
        if thread.pin is not None:
            check_pin(f"vm.{name}.iothread[{index}].pin", thread.pin, facts, problems)
    disks = [
        disk
        for index, disk_spec in enumerate(spec.disks)
        if (disk := storage.plan_disk(name, index, disk_spec))
    ]
    seed = None
    if spec.cloud_init is not None:
        files = make_seed_files(name, uuid, spec.cloud_init, facts, problems)
        seed = SeedPlan(path=facts.state.machine_data(name) / "seed.iso", files=files)
    machine = MachinePlan(
        name=name,
        owner=facts.owner,
        uuid=uuid,
        machine=spec.machine,
        accel=accel,
        cpu=plan_cpu(name, spec.cpu, spec.accel, accel, facts, problems),
        memory=plan_memory(name, spec, facts, problems),
        genid=_choose_genid(spec, uuid),
        **{key: getattr(spec, key) for key in _AS_GIVEN},
        balloon=spec.memory.balloon.enabled,
        rng=bool(spec.rngs),
        disks=tuple(_number_boot_order(disks, direct=spec.kernel is not None)),
        nics=tuple(plan_nics(name, uuid, spec, facts.owner, networks, kept, taken, problems)),
        seed=seed,
        shares=tuple(plan_shares(name, spec, facts, problems)),
        log_size=spec.console.log_size,
    )
    return (
        place(machine, problems) if spec.machine.family is MachineFamily.Q35 else machine
    ), notes


def _choose_accel(
    name: Name, spec: MachineSpec, facts: Facts, problems: list[Problem]
) -> tuple[Accel, list[Note]]:
    kvm = facts.kvm
    if spec.accel is Accel.KVM and kvm.error is not None:
        problems.append(
            Problem(
                f"vm.{name}.accel",
                kvm.error,
                'accel = "auto" falls back to TCG, much slower',
                on_host=True,
            )
        )
    if spec.accel is not Accel.AUTO:
        return spec.accel, []
    if kvm.usable:
        return Accel.KVM, []
    why = kvm.error or "the host CPU has neither vmx nor svm: its KVM runs no ordinary guest"
    return Accel.TCG, [
        Note(
            kind="vm",
            name=name,
            message=f"runs under TCG, many times slower than KVM: {why}",
        )
    ]


def _choose_genid(spec: MachineSpec, uuid: UUID) -> UUID | None:
    """The generation that was given, else one that is always the same for this machine."""
    if spec.genid is None:
        return None
    return spec.genid.guid or uuid5(uuid, "genid")


def _find_host_problems(name: Name, spec: MachineSpec, facts: Facts) -> Iterator[Problem]:
    for key, path in name_files(spec).items():
        if error := facts.files[path].error:
            yield Problem(f"vm.{name}.{key}", error, on_host=True)


def _number_boot_order(disks: list[DiskPlan], *, direct: bool) -> Iterator[DiskPlan]:
    """Disks are booted from in the order they are written, unless a kernel is given."""
    for order, disk in enumerate(disks, 1):
        yield disk if direct else attrs.evolve(disk, bootindex=order)
