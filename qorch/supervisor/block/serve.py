"""Backups that others pull: all disks as they are at one moment, read over NBD.

What the guest overwrites meanwhile goes into an overlay on each disk first (fleecing,
docs/interop/live-block-operations.rst), and it is those overlays that are served, read-only. What
has changed since a checkpoint before is a dirty bitmap that is served with them. A checkpoint is
kept only once the one who pulled says that all is well; anything else takes everything down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import trio

from qorch.block.backup import SINCE, find_done_bitmaps, find_sources
from qorch.block.commands import (
    Action,
    Command,
    add_bitmap,
    add_export,
    as_action,
    fleece,
    merge_bitmaps,
    remove_bitmap,
    start_nbd_server,
    stop_nbd_server,
    transaction,
)
from qorch.block.graph import Graph
from qorch.block.jobs import make_job_id
from qorch.block.nodes import make_node
from qorch.block.record import Journal, Step, Verb
from qorch.block.run import run_job
from qorch.errors import InputError, MachineError, NotFoundError, Problem
from qorch.nursery import open_nursery
from qorch.supervisor.block.backup import end_jobs
from qorch.supervisor.block.freeze import open_frozen
from qorch.supervisor.block.images import make_volumes, remove_volumes
from qorch.supervisor.block.snapshots import find_tops, plan_overlays
from qorch.supervisor.block.work import Work
from qorch.units import Name
from qorch_storage.plan import ImageFormat

_LONGEST_SOCKET = 107  # bytes in sun_path (unix(7))


@attrs.define(eq=False, kw_only=True)
class Export:
    """Disks that are served on a Unix socket until `end` is set; kept as a success if `complete`.

    `since` and `checkpoint` are names of moments: the last one pulled, and this one. It is `ready`
    to be read, and `over` when nothing is served any more.
    """

    socket: Path
    since: str | None = None
    checkpoint: str | None = None
    freeze: bool | None = None
    disks: tuple[str, ...] = ()
    complete: bool = False
    ready: trio.Event = attrs.field(factory=trio.Event)
    end: trio.Event = attrs.field(factory=trio.Event)
    over: trio.Event = attrs.field(factory=trio.Event)

    def finish(self) -> None:
        """All was read: keep the checkpoint, and serve no longer."""
        self.complete = True
        self.end.set()


async def serve_backup(work: Work, export: Export) -> None:
    """Serve all disks as they are at one moment. Raises InputError, MachineError, StorageError."""
    try:
        await _serve(work, export)
    finally:
        export.over.set()


async def _serve(work: Work, export: Export) -> None:
    _check(work, export)
    graph = await work.graph()
    tops = await find_tops(work)
    _check_checkpoints(work, export, graph, tuple(tops))
    overlays, volumes = await plan_overlays(work, tops)
    journal = Journal(
        verb=Verb.SERVE,
        disks=overlays,
        made=volumes,
        socket=export.socket,
        bitmaps=_names(export.checkpoint),
    )
    work.save(journal)
    await work.in_thread(make_volumes, volumes, work.tell())
    journal = work.save(journal, Step.MADE)
    await _begin(work, journal, export, graph)
    export.disks = tuple(tops)
    export.ready.set()
    await _watch(work, journal, export)
    if export.complete:
        superseded = export.since if export.checkpoint else None
        journal = attrs.evolve(journal, bitmaps=_names(superseded))
        work.save(journal)
    await take_down(work, journal)


def _names(checkpoint: str | None) -> tuple[str, ...]:
    return () if checkpoint is None else (name_bitmap(checkpoint),)


def name_bitmap(checkpoint: str) -> str:
    """The bitmap that records what has changed since a checkpoint."""
    return f"qorch-checkpoint-{checkpoint}"


def _check(work: Work, export: Export) -> None:
    problems = []
    for path, checkpoint in (("since", export.since), ("checkpoint", export.checkpoint)):
        try:
            Name.from_text(checkpoint or "none")
        except ValueError as error:
            problems.append(Problem(path, str(error)))
    socket = export.socket
    if len(bytes(socket)) > _LONGEST_SOCKET:
        problems.append(Problem("socket", f"{socket} is longer than {_LONGEST_SOCKET} bytes"))
    elif socket.exists():
        problems.append(Problem("socket", f"{socket} exists", "name one that does not"))
    elif not socket.parent.is_dir():
        problems.append(Problem("socket", f"{socket.parent} is no directory"))
    if problems:
        raise InputError.from_problems(problems)
    if work.machine is None:
        raise MachineError(
            f"{work.name} does not run: it has no NBD server", "its images can be read as they are"
        )


def _check_checkpoints(work: Work, export: Export, graph: Graph, disks: tuple[str, ...]) -> None:
    for disk in disks:
        if export.since and not find_sources(graph, disk, name_bitmap(export.since)):
            raise NotFoundError(
                f"what has changed on {disk} of {work.name} since {export.since!r} is not known",
                "read it all, without --since",
            )
        if export.checkpoint and find_sources(graph, disk, name_bitmap(export.checkpoint)):
            message = f"{work.name} has a checkpoint {export.checkpoint!r} already"
            raise InputError.from_problems([Problem("checkpoint", message, "take another name")])


async def _begin(work: Work, journal: Journal, export: Export, graph: Graph) -> None:
    nodes = {}
    for change in journal.disks:
        nodes[change.disk] = name = f"{change.disk}-fleece"
        below = graph.nodes[change.before.path].name
        work.step(f"open {change.after.path.name}")
        await work.execute(Command("blockdev-add", make_node(name, change.after, backing=below)))
    async with open_frozen(work, journal, wanted=export.freeze):
        work.step("begin fleecing")
        await work.execute(transaction(_make_actions(journal, export, graph, nodes)))
    work.step(f"serve {export.socket}")
    await work.execute(start_nbd_server(export.socket))
    for change in journal.disks:
        source = graph.nodes[change.before.path].name
        bitmaps = [(source, SINCE)] if export.since else []
        node, disk = nodes[change.disk], change.disk
        await work.execute(add_export(f"qorch-{disk}", node, name=disk, bitmaps=bitmaps))


def _make_actions(
    journal: Journal, export: Export, graph: Graph, targets: Mapping[str, str]
) -> Iterator[Action]:
    """What begins at one moment, for all disks."""
    for change in journal.disks:
        node = graph.nodes[change.before.path]
        persistent = node.image.format is ImageFormat.QCOW2
        for name in journal.bitmaps:
            yield as_action(add_bitmap(node.name, name, persistent=persistent))
        if export.since is not None:
            yield as_action(add_bitmap(node.name, SINCE, persistent=False, disabled=True))
            sources = find_sources(graph, change.disk, name_bitmap(export.since))
            yield as_action(merge_bitmaps(node.name, SINCE, sources))
        job = make_job_id("serve", change.disk)
        yield as_action(fleece(job, node=node.name, target=targets[change.disk]))


async def _watch(work: Work, journal: Journal, export: Export) -> None:
    """Wait for the end; an overlay that could not be written to ends it with an error."""

    async def follow(disk: str) -> None:
        job = make_job_id("serve", disk)
        await run_job(work.monitor, job, start=None, report=lambda _job: None)

    async with open_nursery() as nursery:
        for change in journal.disks:
            nursery.start_soon(follow, change.disk)
        await export.end.wait()
        nursery.cancel_scope.cancel()


async def take_down(work: Work, journal: Journal) -> None:
    """Serve no longer and remove what that took; may be done again."""
    disks = [change.disk for change in journal.disks]
    if work.machine is not None:
        if journal.socket is not None and await work.in_thread(journal.socket.exists):
            work.step("stop serving")
            await work.try_execute(stop_nbd_server())  # its exports go with it
        await end_jobs(work, journal)
        for node, name in find_done_bitmaps(await work.graph(), disks, journal.bitmaps):
            await work.try_execute(remove_bitmap(node, name))
    await work.close_nodes([change.after.path for change in journal.disks])
    await work.in_thread(remove_volumes, journal.made, work.tell())
    if journal.socket is not None and journal.socket.is_socket():  # not what came there since
        journal.socket.unlink(missing_ok=True)
    work.step("serve: taken down")
    work.records.clear_journal(work.name)
