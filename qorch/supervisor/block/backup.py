"""Backups of machines into directories, full and incremental, and their restoring."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import trio

from qorch.block.backup import (
    MANIFEST,
    BackupPlan,
    Manifest,
    find_done_bitmaps,
    find_sources,
    make_actions,
    make_bitmap_name,
    next_id,
)
from qorch.block.commands import Command, cancel_job, remove_bitmap, transaction
from qorch.block.jobs import make_job_id
from qorch.block.nodes import make_node
from qorch.block.record import DiskChange, Journal, Step, Verb, Volume
from qorch.block.run import run_job
from qorch.errors import MachineError, NotFoundError, QorchError
from qorch.nursery import open_nursery
from qorch.plan import DiskPlan
from qorch.state import read_json, write_json
from qorch.supervisor.block.finish import finish
from qorch.supervisor.block.freeze import open_frozen
from qorch.supervisor.block.images import Tell, convert_image, fill_volume, make_volumes, read_size
from qorch.supervisor.block.snapshots import find_tops
from qorch.supervisor.block.work import Work
from qorch_storage.errors import StorageError
from qorch_storage.plan import Backing, ImageFormat, PoolType, VolumePlan
from qorch_storage.run import run


def find_backups(directory: Path, machine: str) -> list[Manifest]:
    """The complete backups of a machine in a directory, oldest first."""
    found = [
        read_json(path, Manifest)
        for path in sorted(directory.glob(f"[0-9]*/{MANIFEST}"))
        if path.is_file()
    ]
    return [manifest for manifest in found if manifest.machine == machine]


async def create_backup(
    work: Work, directory: Path, *, incremental: bool = False, freeze: bool | None = None
) -> None:
    """Copy all disks as they are at one moment, or what has changed since the last backup there.

    Raises MachineError, StorageError.
    """
    before = await work.in_thread(find_backups, directory, work.name)
    last = before[-1] if before else None
    tops = await find_tops(work)
    if not tops:
        raise MachineError(f"{work.name} has no disk to copy")
    if incremental:
        await _require_bitmaps(work, last, tops)
    plan = await _plan_backup(work, directory, tops, last if incremental else None)
    changes = tuple(
        DiskChange(
            disk=disk, before=top, after=Backing(path=plan.image(disk), format=ImageFormat.QCOW2)
        )
        for disk, top in tops.items()
    )
    journal = work.save(Journal(verb=Verb.BACKUP, disks=changes, backup=plan))
    await work.in_thread(_make_targets, plan, incremental, work.tell())
    journal = work.save(journal, Step.MADE)
    if work.machine is None:
        for change in changes:
            await work.in_thread(convert_image, change.before, change.after, work.tell())
    else:
        await _begin(work, journal, plan, freeze=freeze)
    await end_backup(work, journal)


async def _require_bitmaps(work: Work, last: Manifest | None, tops: Mapping[str, Backing]) -> None:
    hint = "make a full backup, without --incremental"
    if last is None:
        raise MachineError(f"there is no backup of {work.name} to build on", hint)
    if work.machine is None:
        raise MachineError(f"{work.name} does not run: what has changed is not known", hint)
    graph = await work.graph()
    for disk in tops:
        if disk not in last.disks or not find_sources(graph, disk, last.bitmap):
            message = f"what has changed on {disk} since backup {last.id} is not known"
            raise MachineError(message, f"QEMU, or the disk, is another one since: {hint}")


async def _plan_backup(
    work: Work, directory: Path, tops: Mapping[str, Backing], parent: Manifest | None
) -> BackupPlan:
    now = time.time()
    id_ = await work.in_thread(_find_id, directory)
    return BackupPlan(
        directory=directory,
        old_bitmap=parent.bitmap if parent else None,
        manifest=Manifest(
            machine=work.name,
            id=id_,
            parent=parent.id if parent else None,
            time=now,
            bitmap=make_bitmap_name(work.name, id_, now),
            disks={disk: await work.in_thread(read_size, top) for disk, top in tops.items()},
        ),
    )


def _find_id(directory: Path) -> str:
    """The id after all that are there, complete or not."""
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return next_id(name.strip(".").removesuffix(".new") for name in names)


def _make_targets(plan: BackupPlan, incremental: bool, tell: Tell) -> None:
    try:
        plan.directory.mkdir(parents=True, exist_ok=True)
        plan.place.mkdir()
    except OSError as error:
        raise StorageError.from_os_error(f"make {plan.place}", error) from error
    for disk, size in plan.manifest.disks.items():
        tell(f"make {disk}.qcow2")
        below = f"../{plan.manifest.parent}/{disk}.qcow2"
        over = ["-b", below, "-F", "qcow2"] if incremental else []
        command = ["qemu-img", "create", "-q", "-f", "qcow2", *over]
        run([*command, str(plan.image(disk)), str(size)])


async def _begin(work: Work, journal: Journal, plan: BackupPlan, *, freeze: bool | None) -> None:
    graph = await work.graph()
    targets = {}
    for change in journal.disks:
        targets[change.disk] = name = f"{change.disk}-backup"
        await work.execute(Command("blockdev-add", make_node(name, change.after)))
    async with open_frozen(work, journal, wanted=freeze):
        work.step("begin copying")
        await work.execute(transaction(make_actions(plan, graph, targets)))


async def end_backup(work: Work, journal: Journal) -> None:
    """See a backup's jobs to their end, and give it its name; may be done again."""
    plan = journal.backup
    if plan is None:
        raise AssertionError(journal)
    if work.machine is not None:
        await _follow(work, journal)
        await _leave_nodes(work, journal, [plan.old_bitmap])
    await work.in_thread(_publish, plan, work.tell())
    work.step("backup: done")
    work.records.clear_journal(work.name)


async def _follow(work: Work, journal: Journal) -> None:
    """Wait for the jobs that are there; if one fails, the others are ended."""
    found = await work.jobs()

    async def follow(disk: str) -> None:
        job = make_job_id("backup", disk)
        tell = work.progress(f"copy {disk}")
        await run_job(work.monitor, job, start=None, report=tell)

    async with open_nursery() as nursery:
        for change in journal.disks:
            if make_job_id("backup", change.disk) in found:
                nursery.start_soon(follow, change.disk)


async def _leave_nodes(work: Work, journal: Journal, bitmaps: list[str | None]) -> None:
    graph = await work.graph()
    disks = [change.disk for change in journal.disks]
    for node, name in find_done_bitmaps(graph, disks, bitmaps):
        await work.try_execute(remove_bitmap(node, name))
    for disk in disks:
        await work.try_execute(Command("blockdev-del", {"node-name": f"{disk}-backup"}))


def _publish(plan: BackupPlan, tell: Tell) -> None:
    final = plan.directory / plan.manifest.id
    if plan.place.is_dir():
        tell("publish backup")
        for path in plan.place.iterdir():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        write_json(plan.place / MANIFEST, plan.manifest)
        plan.place.rename(final)


async def undo_backup(work: Work, journal: Journal) -> None:
    """End what is left of a backup that is not complete; may be done again."""
    plan = journal.backup
    if work.machine is not None and plan is not None:
        await end_jobs(work, journal)
        await _leave_nodes(work, journal, [plan.manifest.bitmap])
    if plan is not None:
        await work.in_thread(_remove, plan.place)
    work.step("backup: undone")
    work.records.clear_journal(work.name)


async def end_jobs(work: Work, journal: Journal) -> None:
    """Cancel the jobs that an operation has, and wait until they are gone."""
    for change in journal.disks:
        job = make_job_id(journal.verb, change.disk)
        if job in await work.jobs():
            await work.try_execute(cancel_job(job))
            try:
                await run_job(work.monitor, job, start=None, report=lambda _job: None)
            except QorchError:
                await trio.lowlevel.checkpoint()  # it is what was wanted


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)


async def restore_backup(work: Work, directory: Path, id_: str) -> None:
    """Give a stopped machine's disks what a backup holds, in new volumes.

    Raises MachineError, NotFoundError, StorageError.
    """
    if work.machine is not None:
        raise MachineError(f"{work.name} runs", f"qorch stop {work.name}")
    found = await work.in_thread(find_backups, directory, work.name)
    manifest = next((item for item in found if item.id == id_), None)
    if manifest is None:
        known = ", ".join(item.id for item in found) or "none"
        raise NotFoundError(
            f"{directory} has no backup {id_!r} of {work.name}", f"backups: {known}"
        )
    journal = work.save(await _plan_restore(work, manifest))
    await work.in_thread(make_volumes, journal.made, work.tell())
    for change, volume in zip(journal.disks, journal.made, strict=True):
        source = Backing(path=manifest.image(directory, change.disk), format=ImageFormat.QCOW2)
        await work.in_thread(fill_volume, source, volume, work.tell())
    await finish(work, work.save(journal, Step.MADE))


async def _plan_restore(work: Work, manifest: Manifest) -> Journal:
    changes, volumes = [], []
    for disk in work.disks:
        if disk.id not in manifest.disks:
            continue
        volume = await _plan_target(work, disk, manifest.disks[disk.id])
        volumes.append(volume)
        changes.append(DiskChange(disk=disk.id, before=disk.chain[0], after=volume.image))
    needed = work.record.named_images()
    left = {change.before.path for change in changes} - needed
    drop = tuple(item for item in work.record.volumes if item.image.path in left)
    return Journal(verb=Verb.RESTORE, disks=tuple(changes), made=tuple(volumes), drop=drop)


async def _plan_target(work: Work, disk: DiskPlan, size: int) -> Volume:
    """A volume for a disk's data: an LV where it is one now, or an overlay on one; else qcow2."""
    paths = {image.path for image in disk.chain}
    for volume in work.volumes_of(disk):
        if volume.image.path in paths and volume.pool.type is not PoolType.DIR:
            pool, image_format = volume.pool, ImageFormat.RAW
            name = await work.free_name(disk.id, pool)
            break
    else:
        (pool, name), image_format = work.next_volume(disk), ImageFormat.QCOW2
    plan = VolumePlan(pool=pool.name, name=name, format=image_format, size=size)
    return Volume(pool=pool, volume=plan)
