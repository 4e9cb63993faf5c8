"""Spec and facts to plan: decides everything, touches nothing, the same input the same result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from qorch.errors import InputError, Problem
from qorch.facts import Facts
from qorch.place import Place
from qorch.plan.changes import Change, make_changes, make_removals
from qorch.plan.controllers import ControllerPlan
from qorch.plan.disks import choose_cache
from qorch.plan.hostdevs import HostdevPlan, SmartcardPlan, UsbRedirPlan
from qorch.plan.images import keep_disk, keep_images, keep_variables
from qorch.plan.live import find_group_name, find_live_changes, takes_media
from qorch.plan.machine import plan_machine
from qorch.plan.networks import is_up, plan_networks, same_network
from qorch.plan.nics import Addresses
from qorch.plan.note import Note
from qorch.plan.ports import ChannelPlan, ConsolePlan, ParallelPlan, SerialPlan
from qorch.plan.screens import InputPlan, SoundPlan, SpicePlan, VideoPlan, VncPlan
from qorch.plan.services import IommuPlan, RngPlan, ShmemPlan
from qorch.plan.shares import SharePlan
from qorch.plan.storage import Storage
from qorch.plan.values import (
    Defined,
    DiskImages,
    DiskPlan,
    MachinePlan,
    NicPlan,
    Plan,
    SeedPlan,
    add_leases,
)
from qorch.spec import Spec
from qorch.units import Name

__all__ = [
    "Change",
    "ChannelPlan",
    "ConsolePlan",
    "ControllerPlan",
    "Defined",
    "DiskImages",
    "DiskPlan",
    "HostdevPlan",
    "InputPlan",
    "IommuPlan",
    "MachinePlan",
    "NicPlan",
    "Note",
    "ParallelPlan",
    "Place",
    "Plan",
    "RngPlan",
    "SeedPlan",
    "SerialPlan",
    "SharePlan",
    "ShmemPlan",
    "SmartcardPlan",
    "SoundPlan",
    "SpicePlan",
    "UsbRedirPlan",
    "VideoPlan",
    "VncPlan",
    "add_leases",
    "choose_cache",
    "find_group_name",
    "find_live_changes",
    "is_up",
    "keep_disk",
    "keep_images",
    "keep_variables",
    "make_changes",
    "make_plan",
    "make_removals",
    "same_network",
    "takes_media",
]

QEMU = "qemu-system-x86_64"


def make_plan(spec: Spec, facts: Facts, defined: Defined, *, elsewhere: bool = False) -> Plan:
    """Decide what a document becomes on this host.

    Raises InputError with everything that stands in the way; with `elsewhere`, what only this host
    lacks is a note.
    """
    problems: list[Problem] = []
    if spec.vms and QEMU not in facts.programs:
        hint = "apt-get install qemu-system-x86"
        problems.append(Problem("", f"{QEMU} is not installed", hint, on_host=True))
    networks = plan_networks(spec, facts, defined, problems)
    storage = Storage.from_spec(spec, facts, defined, problems)
    machines: dict[Name, MachinePlan] = {}
    notes: list[Note] = []
    for name, vm in spec.vms.items():
        others = {**defined.machines, **machines}
        others.pop(name, None)
        machine, more = plan_machine(
            name,
            vm,
            facts=facts,
            storage=storage,
            networks=networks,
            defined=defined,
            taken=Addresses.from_machines(others.values()),
            problems=problems,
        )
        machines[name] = keep_images(machine, defined.images.get(name, ()))
        notes += more
    problems += _find_shared_images({**defined.machines, **machines})
    if elsewhere:
        lacks = [problem for problem in problems if problem.on_host]
        problems = [problem for problem in problems if not problem.on_host]
        notes += [Note(kind="host", name=item.path, message=item.message) for item in lacks]
    if problems:
        raise InputError.from_problems(problems)
    return Plan(
        qemu=facts.programs.get(QEMU, Path(QEMU)),
        machines=machines,
        networks=networks,
        volumes=storage.volumes,
        pools=storage.pools,
        notes=tuple(notes),
    )


def _find_shared_images(machines: Mapping[Name, MachinePlan]) -> Iterator[Problem]:
    """Images that a machine writes and another one has: QEMU's locks would refuse the second."""
    seen: dict[Path, tuple[str, bool]] = {}
    for name, machine in machines.items():
        for disk in machine.disks:
            where = f"vm.{name}.disk[{disk.id.removeprefix('disk')}]"
            writes_top = not (disk.read_only or disk.spec.shareable)
            images = [(disk.chain[0].path, writes_top)] if disk.chain else []
            images += [(image.path, False) for image in disk.chain[1:]]
            for path, writes in images:
                first, written = seen.setdefault(path, (where, writes))
                if first != where and (writes or written):
                    yield Problem(where, f"{path} is in use by {first}", "make an overlay: backing")
