"""Images that nobody needs as they are any more are merged with the one that builds on them.

The upper image is written into the lower one, which takes its place. That cannot be taken back, and
need not be: read through the upper image, the lower one with part of the upper one's data in it
reads the same. A merge that was cut short is therefore done again, by QEMU if the machine runs and
has the image open, else by qemu-img. With one exception: after QEMU has put the lower image in the
place of the one that the guest writes to, the upper one is out of date.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qorch.block.commands import add_bitmap, commit, merge_bitmaps
from qorch.block.graph import Graph, Node
from qorch.block.jobs import make_job_id
from qorch.block.record import DiskChange, Journal, Step, Verb, Volume
from qorch.block.run import run_job
from qorch.block.tree import Images, Merge
from qorch.errors import MachineError
from qorch.supervisor.block.images import (
    commit_image,
    read_chains,
    rebase_image,
    remove_files,
    remove_volumes,
)
from qorch.supervisor.block.work import Work
from qorch_storage.plan import Backing


async def tidy(work: Work, *, files: Sequence[Path] = ()) -> None:
    """Merge all that can be merged, remove images that nothing needs; clears the journal."""
    while (merge := await _find_merge(work)) is not None:
        change = DiskChange(disk=merge.disk, before=merge.top, after=merge.base)
        await merge_images(work, Journal(verb=Verb.MERGE, disks=(change,), files=tuple(files)))
    await _remove_orphans(work)
    await work.in_thread(remove_files, files)
    work.records.clear_journal(work.name)


async def find_images(work: Work, disk: str) -> Images:
    """All images that a disk's data and snapshots lie in, as their headers have it."""
    active = work.find_images(disk).chain[0]
    tops = {active.path: active}
    for snapshot in work.record.snapshots:
        if (image := snapshot.disks.get(disk)) is not None:
            tops[image.path] = image
    chains = await work.in_thread(read_chains, tuple(tops.values()))
    return Images(disk=disk, active=active, chains=chains)


async def _find_merge(work: Work) -> Merge | None:
    made = {volume.image.path for volume in work.record.volumes}
    for item in work.record.disks:
        images = await find_images(work, item.disk)
        owned = made | {item.origin}
        if merge := images.find_merge(owned, work.record.named_images()):
            return merge
    return None


async def _remove_orphans(work: Work) -> None:
    """Remove volumes that were made for the machine and that no disk or snapshot builds on."""
    needed = work.record.named_images()
    for item in work.record.disks:
        needed |= set((await find_images(work, item.disk)).all)
    orphans = tuple(item for item in work.record.volumes if item.image.path not in needed)
    await work.close_nodes(item.image.path for item in orphans)
    await work.in_thread(remove_volumes, orphans, work.tell())
    if orphans:
        gone = tuple(volume.image.path for volume in orphans)
        await work.put({}, work.record.with_volumes((), gone))


async def merge_images(work: Work, journal: Journal) -> None:
    """Do one merge, or do it again; the journal has one disk. Raises MachineError, StorageError."""
    (change,) = journal.disks
    images = await find_images(work, change.disk)
    active = images.active.path == change.before.path
    if journal.step is Step.MAKING:
        work.save(journal)
    elif journal.step is Step.PIVOTING and work.machine is None:
        await _conclude(work, journal, images)  # what was below has all, and maybe more
        return
    graph = await work.graph() if work.machine is not None else None
    if graph is None:
        await work.in_thread(commit_image, change.before, work.tell())
    elif change.before.path in graph.disks[change.disk].chain:
        await _commit_live(work, journal, graph, active=active)
    elif not active and not _is_done(images, change):
        await work.in_thread(commit_image, change.before, work.tell())
    await _conclude(work, journal, images)


def _is_done(images: Images, change: DiskChange) -> bool:
    """Whether what QEMU was to commit below the top is out of its chain already."""
    (chain,) = (chain for chain in images.chains if chain[0].path == images.active.path)
    paths = [image.path for image in chain]
    return change.after.path in paths and change.before.path not in paths


async def _commit_live(work: Work, journal: Journal, graph: Graph, *, active: bool) -> None:
    (change,) = journal.disks
    job = make_job_id("merge", change.disk)
    top, base = graph.nodes[change.before.path], graph.nodes[change.after.path]
    node = graph.top_node(change.disk)
    if node is None:
        raise MachineError(f"{work.name} has nothing in {change.disk}")
    start = commit(
        job,
        top=top.name,
        base=base.name,
        active=node.name,
        backing_file=None if active else change.after.path,
    )

    async def note() -> None:
        if active:
            await carry_bitmaps(work, graph.nodes[change.before.path], base.name)
            work.save(journal, Step.PIVOTING)
        else:
            await work.flush(base.name)

    running = await work.jobs()
    if job not in running and journal.step is Step.PIVOTING:
        journal = work.save(journal, Step.MAKING)  # the guest has written to the upper one since
    work.step(f"commit {change.before.path.name}")
    await run_job(
        work.monitor,
        job,
        start=None if job in running else start,
        report=work.progress(f"merge {change.disk}"),
        on_pending=note,
    )


async def carry_bitmaps(work: Work, source: Node, target: str) -> None:
    """Give another node the bitmaps of one that it is about to replace."""
    graph = await work.graph()
    node = graph.nodes.get(source.image.path, source)
    for bitmap in node.bitmaps:
        if bitmap.recording and not bitmap.inconsistent:
            added = add_bitmap(target, bitmap.name, persistent=bitmap.persistent)
            await work.try_execute(added)  # it may have one of that name: from before a snapshot
            await work.execute(merge_bitmaps(target, bitmap.name, [(node.name, bitmap.name)]))


async def _conclude(work: Work, journal: Journal, images: Images) -> None:
    """Let all that referred to the upper image refer to the lower one, and remove the upper one."""
    (change,) = journal.disks
    top, base = change.before, change.after
    open_paths: set[Path] = set()
    if work.machine is not None:
        open_paths = set((await work.graph()).disks[change.disk].chain)
    for child in images.children_of(top.path).values():
        if child.path not in open_paths:  # else QEMU has done it
            await work.in_thread(rebase_image, child, base, work.tell())
    active = base if images.active.path == top.path else images.active
    await work.put({change.disk: active}, work.record.with_image_replaced(top.path, base))
    await work.close_nodes([top.path])
    await _remove(work, top)


async def _remove(work: Work, image: Backing) -> None:
    gone: tuple[Volume, ...] = tuple(
        volume for volume in work.record.volumes if volume.image.path == image.path
    )
    await work.in_thread(remove_volumes, gone, work.tell())
    await work.put({}, work.record.with_volumes((), (image.path,)))
