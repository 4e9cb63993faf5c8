"""Snapshots of disks that are thin LVs: LVM's own, which share blocks, instead of overlays.

The guest writes on to the LV that it has; the snapshot is another one, which is never written to.
To make it the guest is stopped for a moment, with all that it has written flushed, so that it fits
the overlays that other disks get in that moment. Going back means a snapshot of the snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import attrs

from qorch.block.commands import Command
from qorch.block.record import Journal, Step, Volume
from qorch.errors import QorchError
from qorch.supervisor.block.images import Tell, read_size
from qorch.supervisor.block.memory import let_go_on
from qorch.supervisor.block.work import Work
from qorch_storage.errors import StorageError
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, PoolType, VolumePlan
from qorch_storage.pool import make_pool


@attrs.frozen(kw_only=True)
class Copy:
    """A thin LV, and a snapshot of it that is to be made."""

    source: Backing
    volume: Volume


async def plan_copies(work: Work, sources: Mapping[str, Backing]) -> dict[str, Copy]:
    """The thin snapshots for those images of disks that are thin LVs of ours."""
    copies = {}
    for id_, source in sources.items():
        plan = await work.in_thread(_find_pool, source, work.pools_of(id_))
        if plan is not None:
            name = await work.free_name(id_, plan)
            size = await work.in_thread(read_size, source)
            volume = VolumePlan(pool=plan.name, name=name, format=ImageFormat.RAW, size=size)
            copies[id_] = Copy(source=source, volume=Volume(pool=plan, volume=volume))
    return copies


def _find_pool(image: Backing, plans: Iterable[PoolPlan]) -> PoolPlan | None:
    for plan in plans:
        if plan.type is PoolType.LVM_THIN and plan.path == image.path.parent:
            for volume in make_pool(plan).find_volumes():
                if volume.path == image.path and volume.ours:
                    return plan
    return None


def make_copies(copies: Iterable[Copy], tell: Tell) -> None:
    """Make thin snapshots, whose names must be free. Raises StorageError."""
    for copy in copies:
        pool = make_pool(copy.volume.pool)
        source = pool.find_volume(copy.source.path.name)
        if source is None:
            raise StorageError(f"{copy.source.path} does not exist", "see lvs")
        pool.snapshot_volume(source, copy.volume.volume.name, report=tell)


async def take(work: Work, journal: Journal, copies: Mapping[str, Copy]) -> Journal:
    """Make a snapshot's thin snapshots of disks that nobody writes to now. Raises StorageError."""
    await work.in_thread(make_copies, tuple(copies.values()), work.tell())
    return work.save(journal, Step.PIVOTING)


@asynccontextmanager
async def open_taken(
    work: Work, journal: Journal, copies: Mapping[str, Copy]
) -> AsyncIterator[Journal]:
    """Stop a guest, make thin snapshots of its disks, and let it go on when the block ends.

    Without any it is not stopped. Raises MachineError, StorageError.
    """
    if not copies:
        yield journal
        return
    try:
        work.step("stop the guest for a moment")
        await work.execute(Command("stop"))
        journal = await take(work, journal, copies)
        yield journal
    except BaseException:
        journal = work.save(journal, Step.MADE)  # it goes on: they do not fit its disks
        with suppress(QorchError):  # then whoever settles this does it
            await let_go_on(work, journal)
        raise
    await let_go_on(work, journal)
