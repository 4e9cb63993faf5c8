"""Snapshots: made of all disks at one moment, gone back to, removed.

The image that a disk has is frozen by an overlay on top of it, to which the guest writes from then
on. While the machine runs, QEMU puts all overlays in place in one transaction, between two of the
guest's requests. A snapshot's images are never written to. To go back means new overlays on them;
what has been written since is given up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import attrs

from qorch.block.commands import Action, add_bitmap, as_action, snapshot, transaction
from qorch.block.record import DiskChange, Journal, Snapshot, Step, Verb, Volume
from qorch.errors import InputError, MachineError, NotFoundError, Problem
from qorch.supervisor.block.finish import find_left, finish
from qorch.supervisor.block.freeze import open_frozen
from qorch.supervisor.block.images import make_volumes, read_size
from qorch.supervisor.block.memory import check_memory, let_go_on, write_memory
from qorch.supervisor.block.merge import tidy
from qorch.supervisor.block.thin import (
    Copy,
    make_copies,
    open_taken,
    plan_copies,
    take,
)
from qorch.supervisor.block.work import Work
from qorch.units import Name
from qorch_storage.plan import Backing, ImageFormat, VolumePlan


async def create_snapshot(
    work: Work,
    name: str,
    *,
    description: str = "",
    freeze: bool | None = None,
    memory: bool = False,
) -> None:
    """Make a snapshot of all disks, maybe with memory.

    Raises InputError, MachineError, StorageError.
    """
    _check_name(work, name)
    if memory:
        await check_memory(work, freeze=freeze)
    tops = await find_tops(work)
    if not tops:
        raise MachineError(f"{work.name} has no disk to make a snapshot of")
    copies = await plan_copies(work, tops)
    changes, volumes = await plan_overlays(
        work, {id_: top for id_, top in tops.items() if id_ not in copies}
    )
    file = work.records.state.machine_memory(work.name) / name if memory else None
    journal = Journal(
        verb=Verb.SNAPSHOT,
        disks=changes,
        made=(*volumes, *(copy.volume for copy in copies.values())),
        files=(file,) if file else (),
        snapshot=Snapshot(
            name=name,
            parent=work.record.current,
            time=time.time(),
            description=description,
            state=work.machines.state_of(work.name).value,
            memory=file,
            disks=tops | {id_: copy.volume.image for id_, copy in copies.items()},
            plan=work.plan,
        ),
    )
    work.save(journal)
    await work.in_thread(make_volumes, volumes, work.tell())
    journal = work.save(journal, Step.MADE)
    if work.machine is not None:
        journal = await _switch(work, journal, copies, freeze=freeze)
    elif copies:
        journal = await take(work, journal, copies)
    await finish(work, journal)


def _check_name(work: Work, name: str) -> None:
    try:
        Name.from_text(name)
    except ValueError as error:
        hint = getattr(error, "hint", None)
        raise InputError.from_problems([Problem("snapshot", str(error), hint)]) from None
    if work.record.find(name):
        raise InputError.from_problems(
            [
                Problem(
                    "snapshot", f"{work.name} has a snapshot {name!r} already", "take another name"
                )
            ]
        )


async def find_tops(work: Work) -> dict[str, Backing]:
    """The image that each disk is now; QEMU knows best, if it runs."""
    if work.machine is None:
        return {disk.id: disk.chain[0] for disk in work.disks}
    graph = await work.graph()
    nodes = {disk.id: graph.top_node(disk.id) for disk in work.disks}
    return {id_: node.image for id_, node in nodes.items() if node is not None}


async def plan_overlays(
    work: Work, bases: dict[str, Backing]
) -> tuple[tuple[DiskChange, ...], tuple[Volume, ...]]:
    """An overlay for each disk over an image, and what changes for the disk."""
    current = await find_tops(work)
    changes, volumes = [], []
    for id_, base in bases.items():
        pool, name = work.next_volume(work.find_images(id_))
        plan = VolumePlan(
            pool=pool.name,
            name=name,
            format=ImageFormat.QCOW2,
            size=await work.in_thread(read_size, base),
            backing=base,
        )
        volume = Volume(pool=pool, volume=plan)
        volumes.append(volume)
        changes.append(DiskChange(disk=id_, before=current[id_], after=volume.image))
    return tuple(changes), tuple(volumes)


async def _switch(
    work: Work, journal: Journal, copies: Mapping[str, Copy], *, freeze: bool | None
) -> Journal:
    """Put the overlays of a running machine in place, all at once, with thin snapshots made."""
    graph = await work.graph()
    actions = []
    for change in journal.disks:
        node = graph.top_node(change.disk)
        if node is None:
            raise MachineError(f"{work.name} has nothing in {change.disk}")
        overlay = await work.add_node(change.disk, change.after, graph)
        actions += [
            as_action(add_bitmap(overlay, bitmap.name, persistent=True))
            for bitmap in node.bitmaps
            if bitmap.recording and not bitmap.inconsistent
        ]
        actions.append(as_action(snapshot(node.name, overlay)))
    if journal.memory is not None:
        await write_memory(work, journal.memory)
        journal = await take(work, journal, copies)
        await _execute_all(work, actions)
        await let_go_on(work, journal)
        return journal
    async with (
        open_frozen(work, journal, wanted=freeze) as frozen,
        open_taken(work, frozen, copies) as taken,
    ):
        await _execute_all(work, actions)
    return taken


async def _execute_all(work: Work, actions: Sequence[Action]) -> None:
    if actions:
        work.step("switch to overlays")
        await work.execute(transaction(actions))


async def revert_snapshot(work: Work, name: str, *, memory: bool = True) -> None:
    """Make a machine's disks what they were; it is ended first, as if its power failed.

    With `memory` it goes on from the snapshot's, if that has any, when it is started. What was
    written since the last snapshot is lost. Raises MachineError, NotFoundError, StorageError.
    """
    target = find_snapshot(work, name)
    if not memory:
        target = attrs.evolve(target, memory=None)
    if target.memory is not None and (lost := [x for x in target.disks if not _has_disk(work, x)]):
        raise MachineError(
            f"{work.name} has no {lost[0]} any more, which its memory in {name} knows",
            f"only the disks: qorch snapshot revert --disks-only {work.name} {name}",
        )
    bases = {id_: image for id_, image in target.disks.items() if _has_disk(work, id_)}
    copies = await plan_copies(work, bases)
    over, volumes = await plan_overlays(
        work, {id_: image for id_, image in bases.items() if id_ not in copies}
    )
    returns = await _plan_returns(work, copies)
    changes = (*over, *returns)
    left = {change.before.path for change in over}
    drop = [volume for volume in work.record.volumes if volume.image.path in left]
    for change in returns:
        drop += find_left(work, work.find_images(change.disk), change.before)
    journal = Journal(
        verb=Verb.REVERT,
        disks=changes,
        made=(*volumes, *(copy.volume for copy in copies.values())),
        drop=tuple(drop),
        snapshot=target,
    )
    work.save(journal)
    await work.in_thread(make_volumes, volumes, work.tell())
    await work.in_thread(make_copies, tuple(copies.values()), work.tell())
    journal = work.save(journal, Step.MADE)
    if work.machine is not None:
        work.step("end")
        await work.machines.stop(work.name, 0)
    await finish(work, journal)
    await tidy(work)


async def _plan_returns(work: Work, copies: Mapping[str, Copy]) -> list[DiskChange]:
    current = await find_tops(work)
    return [
        DiskChange(disk=id_, before=current[id_], after=copy.volume.image)
        for id_, copy in copies.items()
    ]


def _has_disk(work: Work, id_: str) -> bool:
    return any(disk.id == id_ for disk in work.disks)


async def remove_snapshot(work: Work, name: str) -> None:
    """Forget a snapshot; what only it needed is merged or removed. Raises NotFoundError."""
    target = find_snapshot(work, name)
    saved = work.machines.read_saved(work.name)
    if saved is not None and saved.snapshot == name:
        raise MachineError(
            f"{work.name} goes on from the memory of {name} when it is started",
            f"qorch start {work.name}, or: qorch snapshot revert --disks-only {work.name} {name}",
        )
    files = (target.memory,) if target.memory is not None else ()
    work.save(Journal(verb=Verb.MERGE, files=files, snapshot=target))
    await work.put({}, work.record.without_snapshot(name))
    await tidy(work, files=files)


def find_snapshot(work: Work, name: str) -> Snapshot:
    """A machine's snapshot. Raises NotFoundError."""
    found = work.record.find(name)
    if found is None:
        known = ", ".join(item.name for item in work.record.snapshots) or "none"
        raise NotFoundError(f"{work.name} has no snapshot {name!r}", f"its snapshots: {known}")
    return found
