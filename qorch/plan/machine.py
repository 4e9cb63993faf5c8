"""Machines: every identifier, decided from the spec, the host and what is defined already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from uuid import UUID, uuid5

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
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
        cpu_model=spec.cpu.model or _choose_cpu_model(accel, facts),
        cpus=spec.cpu.count,
        pin=spec.cpu.pin,
        memory=spec.memory.size,
        balloon=spec.memory.balloon.enabled,
        rng=bool(spec.rngs),
        kernel=spec.kernel,
        initrd=spec.initrd,
        append=spec.append,
        disks=tuple(_number_boot_order(disks, direct=spec.kernel is not None)),
        nics=tuple(plan_nics(name, uuid, spec, facts.owner, networks, kept, taken, problems)),
        seed=seed,
        guest_agent=spec.guest_agent,
        shares=tuple(plan_shares(name, spec, facts, problems)),
        ready=spec.ready,
        log_size=spec.console.log_size,
        powerdown_timeout=spec.powerdown_timeout,
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


def _choose_cpu_model(accel: Accel, facts: Facts) -> str:
    """The best there is; a KVM without vmx or svm does not know all of the host CPU's MSRs."""
    if accel is Accel.KVM:
        return "host" if facts.kvm.hardware else "qemu64"
    return "max"


def _find_host_problems(name: Name, spec: MachineSpec, facts: Facts) -> Iterator[Problem]:
    for key in ("kernel", "initrd"):
        path = getattr(spec, key)
        if path is not None and (error := facts.files[path].error):
            yield Problem(f"vm.{name}.{key}", error, on_host=True)
    for index, cpus in enumerate(spec.cpu.pin):
        if missing := cpus - facts.cpus:
            yield Problem(
                f"vm.{name}.cpu.pin[{index}]",
                f"this host has no CPU {min(missing)}",
                f"its CPUs are {type(cpus)(facts.cpus)}",
                on_host=True,
            )


def _number_boot_order(disks: list[DiskPlan], *, direct: bool) -> Iterator[DiskPlan]:
    """Disks are booted from in the order they are written, unless a kernel is given."""
    for order, disk in enumerate(disks, 1):
        yield disk if direct else attrs.evolve(disk, bootindex=order)
