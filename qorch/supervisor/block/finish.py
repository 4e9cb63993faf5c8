"""How operations end: done, what they replaced is removed; undone, what they made is."""

from __future__ import annotations

import attrs

from qorch.block.record import Journal, Record, Saved, Step, Verb, Volume
from qorch.plan import DiskPlan
from qorch.supervisor.block.images import find_users, remove_files, remove_volumes
from qorch.supervisor.block.work import Work
from qorch_storage.plan import Backing


async def finish(work: Work, journal: Journal) -> None:
    """Store what is so now, then remove what was replaced. May be done again."""
    tops = {change.disk: change.after for change in journal.disks}
    await work.put(tops, _conclude(work.record, journal))
    _set_saved(work, journal)
    await work.close_nodes([change.before.path for change in journal.disks if _is_left(journal)])
    drop = await _find_unused(work, journal)
    await work.in_thread(remove_volumes, drop, work.tell())
    gone = tuple(volume.image.path for volume in drop)
    if gone:
        await work.put({}, work.record.with_volumes((), gone))
    work.step(f"{journal.verb}: done")
    work.records.clear_journal(work.name)


async def _find_unused(work: Work, journal: Journal) -> list[Volume]:
    """What is to go, but for what somebody has built on meanwhile: a linked clone."""
    unused = []
    for volume in journal.drop:
        users = await work.in_thread(find_users, volume, work.pools.values())
        if users:
            work.note(f"{volume.image.path} stays: {', '.join(users)} builds on it")
        else:
            unused.append(volume)
    return unused


async def undo(work: Work, journal: Journal) -> None:
    """Remove what was made for an operation that has not taken effect. May be done again."""
    if journal.step is Step.PIVOTING:
        work.save(journal, Step.MADE)  # what was copied is out of date from here on
    await work.close_nodes([volume.image.path for volume in journal.made])
    await work.in_thread(remove_volumes, journal.made, work.tell())
    await work.in_thread(remove_files, journal.files)
    work.step(f"{journal.verb}: undone")
    work.records.clear_journal(work.name)


def _set_saved(work: Work, journal: Journal) -> None:
    """Once the disks are others, the machine goes on from the memory that fits them, or boots."""
    if journal.verb not in {Verb.REVERT, Verb.RESTORE}:
        return
    target, saved = journal.snapshot, None
    if target is not None and target.memory is not None:
        plan = work.with_images(target.plan)
        saved = Saved(snapshot=target.name, memory=target.memory, state=target.state, plan=plan)
    work.step("note memory" if saved else "forget memory")
    work.machines.write_saved(work.name, saved)


def find_left(work: Work, disk: DiskPlan, image: Backing) -> tuple[Volume, ...]:
    """The volume that a disk leaves, if it was made for the machine and no snapshot needs it."""
    made = [volume for volume in work.volumes_of(disk) if volume.image.path == image.path]
    return tuple(made[:1]) if image.path not in work.record.named_images() else ()


def _is_left(journal: Journal) -> bool:
    """Whether the images that were replaced are not below those that replaced them."""
    return journal.verb is not Verb.SNAPSHOT


def _conclude(record: Record, journal: Journal) -> Record:
    record = record.with_volumes(journal.made)
    snapshot = journal.snapshot
    if snapshot is None:
        return record
    if journal.verb is Verb.REVERT:
        return attrs.evolve(record, current=snapshot.name)
    return record if record.find(snapshot.name) else record.with_snapshot(snapshot)
