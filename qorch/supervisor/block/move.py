"""A disk's data moved to another pool or format, and a disk cut off from what it builds on."""

from __future__ import annotations

import functools

from qorch.block.commands import mirror, stream
from qorch.block.jobs import make_job_id
from qorch.block.record import DiskChange, Journal, Step, Verb, Volume
from qorch.block.run import run_job
from qorch.errors import MachineError
from qorch.supervisor.block.finish import find_left, finish
from qorch.supervisor.block.images import (
    check_free,
    fill_volume,
    flatten_image,
    make_volumes,
    read_size,
)
from qorch.supervisor.block.merge import carry_bitmaps, tidy
from qorch.supervisor.block.snapshots import find_tops
from qorch.supervisor.block.work import Work
from qorch_storage.plan import ImageFormat, PoolPlan, VolumePlan


async def move_disk(work: Work, disk: str, pool: PoolPlan, image_format: ImageFormat) -> None:
    """Copy all that a disk reads into a volume of another pool, which becomes the disk.

    The guest writes on meanwhile. The volume that the data was in is removed if it was made for
    the machine and no snapshot needs it. Raises NotFoundError, MachineError, StorageError.
    """
    plan = work.find_disk(disk)
    source = (await find_tops(work)).get(disk)
    if source is None:
        raise MachineError(f"{work.name} cannot write to {disk}", "only such a disk can be moved")
    name = plan.volume.name if plan.volume else f"{work.name}-{disk}"
    wanted = VolumePlan(
        pool=pool.name,
        name=name,
        format=image_format,
        size=await work.in_thread(read_size, source),
    )
    target = Volume(pool=pool, volume=wanted)
    await work.in_thread(check_free, (target,))
    journal = Journal(
        verb=Verb.MOVE,
        disks=(DiskChange(disk=disk, before=source, after=target.image),),
        made=(target,),
        drop=find_left(work, plan, source),
    )
    work.save(journal)
    await work.in_thread(make_volumes, (target,), work.tell())
    journal = work.save(journal, Step.MADE)
    await copy_disk(work, journal)


async def copy_disk(work: Work, journal: Journal) -> None:
    """Copy, let the copy take the disk's place, and finish; may be done again."""
    (change,), (target,) = journal.disks, journal.made
    if work.machine is None:
        await work.in_thread(fill_volume, change.before, target, work.tell())
    else:
        await _mirror(work, journal)
    await end_move(work, work.save(journal, Step.REPLACED))


async def end_move(work: Work, journal: Journal) -> None:
    """What is left to do once the copy is the disk; may be done again.

    QEMU copies to what has the same size only, and LVM rounds up to extents: until now the rest of
    an LV was not used.
    """
    (change,) = journal.disks
    if work.machine is not None and change.after.format is ImageFormat.RAW:
        graph = await work.graph()
        size = await work.in_thread(read_size, change.after)
        if size != graph.nodes[change.after.path].size:
            work.note(f"{change.disk} has {size} bytes now")
            await work.use_whole(change.disk, change.after, graph)
    await finish(work, journal)


async def _mirror(work: Work, journal: Journal) -> None:
    (change,) = journal.disks
    job = make_job_id("move", change.disk)
    start = None
    if job not in await work.jobs():
        graph = await work.graph()
        source = graph.nodes[change.before.path]
        size = await work.in_thread(read_size, change.after)
        used = source.size if size > source.size else None
        target = await work.add_node(change.disk, change.after, graph, size=used)
        start = mirror(job, node=source.name, target=target)

    async def note() -> None:
        graph = await work.graph()
        source, target = graph.nodes[change.before.path], graph.nodes[change.after.path]
        await carry_bitmaps(work, source, target.name)
        work.save(journal, Step.PIVOTING)

    work.step(f"copy {change.before.path.name}")
    await run_job(
        work.monitor,
        job,
        start=start,
        report=work.progress(f"copy {change.disk}"),
        on_pending=note,
    )


async def flatten_disk(work: Work, disk: str) -> None:
    """Copy what a disk reads from the images below into its own, which then needs none of them.

    Raises NotFoundError, MachineError, StorageError.
    """
    plan = work.find_disk(disk)
    if len(plan.chain) < 2:
        return
    if plan.read_only:
        raise MachineError(f"{work.name} cannot write to {disk}", "only such a disk is flattened")
    change = DiskChange(disk=disk, before=plan.chain[0], after=plan.chain[0])
    await stream_disk(work, work.save(Journal(verb=Verb.FLATTEN, disks=(change,))))


async def stream_disk(work: Work, journal: Journal) -> None:
    """Do what `flatten_disk` does, or go on with it: meanwhile the image reads the same."""
    (change,) = journal.disks
    if work.machine is None:
        await work.in_thread(flatten_image, change.after, work.tell())
    else:
        await _stream(work, change)
    await end_stream(work, journal)


async def _stream(work: Work, change: DiskChange) -> None:
    job = make_job_id("flatten", change.disk)
    graph = await work.graph()
    running = job in await work.jobs()
    if not running and len(graph.find(change.disk).chain) < 2:
        return
    node = graph.nodes[change.after.path].name
    work.step(f"flatten {change.disk}")
    await run_job(
        work.monitor,
        job,
        start=None if running else stream(job, node),
        report=work.progress(f"flatten {change.disk}"),
        on_pending=functools.partial(work.flush, node),
    )


async def end_stream(work: Work, journal: Journal) -> None:
    """Store what the image builds on now, as its header has it."""
    (change,) = journal.disks
    await work.put({change.disk: change.after}, work.record)
    if work.machine is not None:
        await work.close_nodes((await work.graph()).find_unused(change.disk))
    await tidy(work)
