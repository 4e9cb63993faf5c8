"""Machines: every identifier, decided from the spec, the host and what is defined already."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID, uuid5

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.board import choose_machine, find_cpu_lacks, find_emulator
from qorch.plan.cpu import check_pin, plan_cpu
from qorch.plan.disks import plan_disks
from qorch.plan.files import find_file_problems
from qorch.plan.firmware import plan_firmware
from qorch.plan.hostdevs import plan_hostdevs, plan_smartcards, plan_usb_redirs
from qorch.plan.memory import plan_memory
from qorch.plan.nics import Addresses, NicPlanner
from qorch.plan.note import Note
from qorch.plan.place import Placement, place_devices
from qorch.plan.ports import plan_channels, plan_console, plan_parallels, plan_serials
from qorch.plan.room import find_tight_memory
from qorch.plan.screens import (
    plan_audio,
    plan_inputs,
    plan_sounds,
    plan_spice,
    plan_videos,
    plan_vnc,
)
from qorch.plan.seats import find_seats
from qorch.plan.seed import make_seed_files
from qorch.plan.services import (
    plan_balloon,
    plan_cryptos,
    plan_iommu,
    plan_panics,
    plan_pstore,
    plan_rngs,
    plan_shmems,
    plan_watchdogs,
)
from qorch.plan.shares import plan_shares
from qorch.plan.storage import Storage
from qorch.plan.tpm import find_overwritten, plan_tpm
from qorch.plan.values import Defined, MachinePlan, SeedPlan
from qorch.plan.vsock import plan_vsock
from qorch.spec import Accel, MachineSpec
from qorch.units import Name
from qorch_net.plan import NetworkPlan

_NAMESPACE = UUID("6f3c9a4e-0d1b-5c57-9a55-2f8f3c1d7b90")  # made up once, for uuid5
_AS_GIVEN = (
    *("kernel", "initrd", "append", "ready", "powerdown_timeout", "emulator"),
    *("iothreads", "features", "clock", "boot", "smbios", "credentials", "fw_cfg"),
    *("title", "confidential", "on_reboot", "on_panic", "sandbox", "qemu_args"),
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
    problems += find_file_problems(name, spec, facts)
    _check_iothreads(name, spec, facts, problems)
    path = f"vm.{name}"
    placement = place_devices(
        path,
        spec.machine.family,
        spec.controllers,
        tuple(find_seats(path, spec)),
        kept.places() if kept else {},
        problems,
    )
    notes += (Note(kind="vm", name=name, message=message) for message in placement.unseen)
    notes += find_overwritten(name, spec, facts)
    nics = NicPlanner(path, name, uuid, accel, facts, networks, kept, taken, placement, problems)
    machine = MachinePlan(
        name=name,
        owner=facts.owner,
        uuid=uuid,
        machine=choose_machine(name, spec, kept, facts, problems),
        accel=accel,
        cpu=plan_cpu(name, spec.cpu, spec.accel, accel, facts, problems, notes),
        memory=plan_memory(name, spec, facts, placement, problems),
        firmware=plan_firmware(name, spec, facts, problems),
        tpm=plan_tpm(name, spec, facts, problems),
        genid=_choose_genid(spec, uuid),
        **{key: getattr(spec, key) for key in _AS_GIVEN},
        controllers=placement.controllers,
        disks=tuple(plan_disks(name, spec, storage, placement)),
        nics=tuple(nics.plan(spec.nics)),
        seed=_plan_seed(name, uuid, spec, facts, placement, problems),
        shares=tuple(plan_shares(name, spec, facts, placement, problems)),
        console=plan_console(spec, placement),
        serials=tuple(plan_serials(path, spec, placement, problems)),
        parallels=tuple(plan_parallels(path, spec, problems)),
        channels=tuple(plan_channels(spec, placement)),
        rngs=tuple(plan_rngs(spec, placement)),
        balloon=plan_balloon(spec, placement),
        watchdogs=tuple(plan_watchdogs(spec, placement)),
        panics=tuple(plan_panics(spec, placement)),
        vsock=plan_vsock(path, uuid, spec, placement, taken.cids, problems),
        pstore=plan_pstore(spec, placement),
        iommu=plan_iommu(spec, placement),
        shmems=tuple(plan_shmems(spec, placement)),
        cryptos=tuple(plan_cryptos(spec, placement)),
        vnc=plan_vnc(path, name, spec, facts.state, problems),
        spice=plan_spice(path, name, spec, facts.state, problems),
        display=spec.display,
        videos=tuple(plan_videos(spec, placement)),
        audio=plan_audio(spec),
        sounds=tuple(plan_sounds(path, spec, placement, problems)),
        inputs=tuple(plan_inputs(spec, placement)),
        hostdevs=tuple(plan_hostdevs(path, spec, facts, placement, taken.hostdevs, problems)),
        usb_redirs=tuple(plan_usb_redirs(spec, placement)),
        smartcards=tuple(plan_smartcards(spec, placement)),
    )
    if emulator := find_emulator(spec, facts):
        problems += find_cpu_lacks(name, spec, machine, emulator)
    find_tight_memory(machine, facts.room, problems, notes)
    return machine, notes


def _check_iothreads(name: Name, spec: MachineSpec, facts: Facts, problems: list[Problem]) -> None:
    for index, thread in enumerate(spec.iothreads):
        if thread.pin is not None:
            check_pin(f"vm.{name}.iothread[{index}].pin", thread.pin, facts, problems)


def _plan_seed(
    name: Name,
    uuid: UUID,
    spec: MachineSpec,
    facts: Facts,
    placement: Placement,
    problems: list[Problem],
) -> SeedPlan | None:
    if spec.cloud_init is None:
        return None
    files = make_seed_files(name, uuid, spec.cloud_init, facts, problems)
    path = facts.state.machine_data(name) / "seed.iso"
    return SeedPlan(path=path, files=files, place=placement.get("seed"))


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
