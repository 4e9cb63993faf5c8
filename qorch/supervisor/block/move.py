"""A disk's data moved to another pool or format, and a disk cut off from what it builds on."""

from __future__ import annotations

from qorch.block.commands import mirror, stream
from qorch.block.jobs import make_job_id
from qorch.block.record import DiskChange, Journal, Step, Verb, Volume
from qorch.block.run import run_job
from qorch.errors import MachineError
from qorch.plan import DiskPlan
from qorch.supervisor.block.finish import finish
from qorch.supervisor.block.images import convert_image, make_volumes, read_size
from qorch.supervisor.block.merge import carry_bitmaps
from qorch.supervisor.block.snapshots import find_tops
from qorch.supervisor.block.work import Work
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, VolumePlan


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
    journal = Journal(
        verb=Verb.MOVE,
        disks=(DiskChange(disk=disk, before=source, after=target.image),),
        made=(target,),
        drop=_find_left(work, plan, source),
    )
    work.save(journal)
    await work.in_thread(make_volumes, (target,), work.tell())
    journal = work.save(journal, Step.MADE)
    await copy_disk(work, journal)


def _find_left(work: Work, disk: DiskPlan, source: Backing) -> tuple[Volume, ...]:
    """The volume that a move leaves behind, if it was made for this disk and nobody needs it."""
    made = [volume for volume in work.record.volumes if volume.image.path == source.path]
    if disk.pool is not None and disk.volume is not None:
        own = Volume(pool=disk.pool, volume=disk.volume)
        made += [own] if own.image.path == source.path else []
    return tuple(made[:1]) if source.path not in work.record.named_images() else ()


async def copy_disk(work: Work, journal: Journal) -> None:
    """Copy, let the copy take the disk's place, and finish; may be done again."""
    (change,) = journal.disks
    if work.machine is None:
        await work.in_thread(convert_image, change.before, change.after, work.tell())
    else:
        await _mirror(work, journal)
    await finish(work, work.save(journal, Step.REPLACED))


async def _mirror(work: Work, journal: Journal) -> None:
    (change,) = journal.disks
    job = make_job_id("move", change.disk)
    start = None
    if job not in await work.jobs():
        graph = await work.graph()
        source = graph.nodes[change.before.path]
        target = await work.add_node(change.disk, change.after, graph)
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
    change = DiskChange(disk=disk, before=plan.chain[0], after=plan.chain[0])
    await stream_disk(work, work.save(Journal(verb=Verb.FLATTEN, disks=(change,))))


async def stream_disk(work: Work, journal: Journal) -> None:
    """Do what `flatten_disk` does, or go on with it."""
    (change,) = journal.disks
    if work.machine is None:
        raise MachineError(f"{work.name} does not run", f"qorch start {work.name}")
    job = make_job_id("flatten", change.disk)
    start = None
    if job not in await work.jobs():
        graph = await work.graph()
        start = stream(job, graph.nodes[change.after.path].name)
    work.step(f"flatten {change.disk}")
    await run_job(work.monitor, job, start=start, report=work.progress(f"flatten {change.disk}"))
    await end_stream(work, journal)


async def end_stream(work: Work, journal: Journal) -> None:
    """Store what the image builds on now, as its header has it."""
    (change,) = journal.disks
    below = work.find_disk(change.disk).chain[1:]
    await work.put({change.disk: change.after}, work.record)
    await work.close_nodes([image.path for image in below])
    work.records.clear_journal(work.name)
