"""What is done to machines' disks, as the verbs of the API.

A caller who leaves cancels nothing: the operation goes on, and so it does under the next
supervisor. A job is ended by `cancel_job`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import attrs
import trio

from qorch.block.commands import Command, cancel_job
from qorch.block.record import Snapshot
from qorch.block.tree import draw
from qorch.errors import InputError, NotFoundError, Problem, QorchError
from qorch.plan import DiskImages, MachinePlan
from qorch.progress import Progress, Report, ignore
from qorch.supervisor.block import backup, move, serve, settings, snapshots
from qorch.supervisor.block.images import remove_files, remove_volumes
from qorch.supervisor.block.memory import find_memory_jobs
from qorch.supervisor.block.operations import Operation, Operations
from qorch.supervisor.block.records import Records
from qorch.supervisor.block.serve import Export
from qorch.supervisor.block.space import Space
from qorch.supervisor.block.work import Work
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.machines import Machines
from qorch.supervisor.tasks import Tasks, from_thread
from qorch.units import Name
from qorch_storage.plan import ImageFormat, PoolPlan, PoolType
from qorch_storage.pool import make_pool

_END_DEADLINE = 30.0  # seconds for what was served to be taken down


class StartMachine(Protocol):
    """The supervisor's own verb."""

    async def __call__(self, name: str, *, report: Report) -> None:
        """Start a machine, with the networks it needs."""


@attrs.define(eq=False)
class Block:
    """The disks of one state directory's machines. All methods raise NotFoundError."""

    _tasks: Tasks
    _definitions: Definitions
    _machines: Machines
    _records: Records
    _find_pools: Callable[[], Mapping[Name, PoolPlan]]
    _start_machine: StartMachine
    space: Space
    operations: Operations = attrs.field(init=False)
    _exports: dict[Name, Export] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.operations = Operations(self._tasks, self._machines, self._make_work)

    # -- snapshots -----------------------------------------------------------------------------

    def find_snapshots(self, name: str) -> list[dict[str, object]]:
        """The rows of `qorch snapshot ls`, parents first."""
        record = self._records.read(self._definitions.find(name))
        return [_make_row(item, branch, record.current) for branch, item in draw(record)]

    async def create_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        description: str = "",
        freeze: bool | None = None,
        memory: bool = False,
        report: Report = ignore,
    ) -> None:
        """Freeze all disks of a machine as they are, at one moment, and keep its memory of then.

        Raises InputError, MachineError, StorageError.
        """
        operation = functools.partial(
            snapshots.create_snapshot,
            name=snapshot,
            description=description,
            freeze=freeze,
            memory=memory,
        )
        await self._do(name, f"snapshot {snapshot}", operation, report)

    async def revert_snapshot(
        self, name: str, snapshot: str, *, memory: bool = True, report: Report = ignore
    ) -> None:
        """Give a machine the disks of a snapshot; one that runs is ended, and started again.

        A snapshot with memory is started from that, unless `memory` is false. Raises MachineError,
        StorageError.
        """
        known = self._definitions.find(name)
        ran = known in self._machines
        operation = functools.partial(snapshots.revert_snapshot, name=snapshot, memory=memory)
        await self._do(name, f"revert to {snapshot}", operation, report)
        if ran or self._machines.read_saved(known) is not None:
            await self._start_machine(name, report=report)

    async def remove_snapshot(self, name: str, snapshot: str, *, report: Report = ignore) -> None:
        """Forget a snapshot and merge what only it needed. Raises MachineError, StorageError."""
        operation = functools.partial(snapshots.remove_snapshot, name=snapshot)
        await self._do(name, f"remove snapshot {snapshot}", operation, report)

    # -- disks ---------------------------------------------------------------------------------

    async def move_disk(
        self,
        name: str,
        disk: str,
        *,
        pool: str,
        image_format: str | None = None,
        report: Report = ignore,
    ) -> None:
        """Move a disk's data into another pool or format. Raises MachineError, StorageError."""
        place = self._find_pool(pool)
        usual = ImageFormat.QCOW2 if place.type is PoolType.DIR else ImageFormat.RAW
        kind = check_format(image_format) if image_format else usual
        make_pool(place).check_format(kind)
        operation = functools.partial(move.move_disk, disk=disk, pool=place, image_format=kind)
        await self._do(name, f"move {disk}", operation, report)

    async def grow_disk(self, name: str, disk: str, *, size: int, report: Report = ignore) -> None:
        """Make a disk larger; a guest that runs is told. Raises InputError, StorageError."""
        operation = functools.partial(settings.grow_disk, disk=disk, size=size)
        await self._do(name, f"resize {disk}", operation, report)

    async def limit_disk(
        self, name: str, disk: str, *, limits: Mapping[str, int], report: Report = ignore
    ) -> None:
        """Change what a running disk may do, by the names of `throttle`. Raises MachineError."""
        operation = functools.partial(settings.limit_disk, disk=disk, limits=limits)
        await self._do(name, f"limit {disk}", operation, report)

    async def change_medium(
        self,
        name: str,
        disk: str,
        *,
        path: Path | None,
        force: bool = False,
        report: Report = ignore,
    ) -> None:
        """Put an image into a drive, or take out what is in it. Raises InputError, MachineError."""
        operation = functools.partial(settings.change_medium, disk=disk, path=path, force=force)
        await self._do(name, f"change medium of {disk}", operation, report)

    async def adapt(self, name: str, wanted: MachinePlan, report: Report) -> None:
        """Give a running machine the media and limits of a plan. Raises MachineError."""
        operation = functools.partial(settings.adapt, wanted=wanted)
        await self._do(name, "change media and limits", operation, report)

    async def flatten_disk(self, name: str, disk: str, *, report: Report = ignore) -> None:
        """Cut a disk off from the images it builds on. Raises MachineError, StorageError."""
        operation = functools.partial(move.flatten_disk, disk=disk)
        await self._do(name, f"flatten {disk}", operation, report)

    def _find_pool(self, name: str) -> PoolPlan:
        pools = {str(known): plan for known, plan in self._find_pools().items()}
        if name not in pools:
            raise NotFoundError(f"there is no pool {name!r}", f"pools: {', '.join(sorted(pools))}")
        return pools[name]

    # -- backups -------------------------------------------------------------------------------

    async def find_backups(self, name: str, directory: Path) -> list[dict[str, object]]:
        """The rows of `qorch backup ls`, oldest first."""
        known = self._definitions.find(name)
        found = await trio.to_thread.run_sync(backup.find_backups, directory, known)
        return [
            {key: value for key, value in attrs.asdict(item).items() if key != "version"}
            for item in found
        ]

    async def create_backup(
        self,
        name: str,
        *,
        directory: Path,
        incremental: bool = False,
        freeze: bool | None = None,
        report: Report = ignore,
    ) -> None:
        """Copy a machine's disks, or what has changed. Raises MachineError, StorageError."""
        operation = functools.partial(
            backup.create_backup, directory=directory, incremental=incremental, freeze=freeze
        )
        await self._do(name, f"backup to {directory}", operation, report)

    async def restore_backup(
        self, name: str, *, directory: Path, backup_id: str, report: Report = ignore
    ) -> None:
        """Give a stopped machine's disks what a backup holds. Raises MachineError, StorageError."""
        operation = functools.partial(backup.restore_backup, directory=directory, id_=backup_id)
        await self._do(name, f"restore {backup_id}", operation, report)

    @asynccontextmanager
    async def open_export(
        self,
        name: str,
        *,
        socket: Path,
        since: str | None = None,
        checkpoint: str | None = None,
        freeze: bool | None = None,
        report: Report = ignore,
    ) -> AsyncIterator[Export]:
        """Serve a machine's disks, as they are now, read-only over NBD as long as the block lasts.

        Left by an error, the block leaves no checkpoint. `end_export` ends it from elsewhere: then
        `end` of what is yielded is set. Raises InputError, MachineError, NotFoundError,
        StorageError.
        """
        known = self._definitions.find(name)
        export = Export(socket=socket, since=since, checkpoint=checkpoint, freeze=freeze)
        operation = functools.partial(serve.serve_backup, export=export)
        outcome = self.operations.begin(known, f"backup over {socket}", operation, report)
        self._exports[known] = export
        try:
            await _wait_any(export.ready, outcome.done)
            if not outcome.done.is_set():
                yield export
                export.complete = True
        finally:
            export.end.set()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _END_DEADLINE):
                await outcome.done.wait()
            del self._exports[known]
        if outcome.error is not None:
            raise outcome.error

    async def end_export(self, name: str) -> None:
        """End what `open_export` serves, as a success. Raises NotFoundError."""
        export = self._exports.get(self._definitions.find(name))
        if export is None:
            raise NotFoundError(f"nothing of {name} is served", f"qorch backup serve {name}")
        export.finish()

    # -- jobs ----------------------------------------------------------------------------------

    async def wait_quiet(self, name: str) -> None:
        """Wait until nothing is being done to a machine's disks, by whomever it was begun."""
        await self.operations.wait_quiet(self._definitions.find(name))

    async def find_jobs(self) -> list[dict[str, object]]:
        """The rows of `qorch job ls`: what is being done to disks, and how far it has come."""
        rows = []
        for name in self._machines:
            work = self._make_work(name, ignore)
            jobs = [*(await work.jobs()).values(), *await find_memory_jobs(work)]
            rows += [
                {
                    "machine": name,
                    "job": job.id,
                    "what": self.operations.describe(name),
                    "type": job.type,
                    "state": job.state,
                    "current": job.current,
                    "total": job.total,
                    "percent": job.percent,
                }
                for job in jobs
            ]
        return rows

    async def pause_machine(self, name: str, *, report: Report = ignore) -> None:
        """Stop a guest's clock until it is resumed. Raises MachineError."""
        report(Progress("vm", name, "pause"))
        await self._machines.find(name).monitor.execute("stop")

    async def resume_machine(self, name: str, *, report: Report = ignore) -> None:
        """Let a guest go on that was paused, by somebody or for lack of space.

        Raises MachineError.
        """
        report(Progress("vm", name, "resume"))
        await self._machines.find(name).monitor.execute("cont")

    async def cancel_job(self, name: str, job: str | None = None) -> None:
        """End a machine's jobs, or one of them. Raises MachineError."""
        work = self._make_work(self._definitions.find(name), ignore)
        ours = {id_: cancel_job(id_) for id_, item in (await work.jobs()).items() if item.is_ours}
        ours |= {item.id: Command("migrate_cancel") for item in await find_memory_jobs(work)}
        if job is not None and job not in ours:
            raise NotFoundError(f"{name} has no job {job!r}", f"jobs: {', '.join(ours) or 'none'}")
        for id_ in [job] if job is not None else ours:
            await work.try_execute(ours[id_])

    # -- life ----------------------------------------------------------------------------------

    def read_images(self) -> Mapping[Name, tuple[DiskImages, ...]]:
        """Where the data of disks is that is not where their descriptions say."""
        return self._records.read_images()

    async def remove_volumes(self, name: Name, report: Report) -> None:
        """Remove what was made for a machine's disks, and all its snapshots. Raises StorageError.

        The caller holds the machine's lock.
        """
        record = self._records.read(name)
        tell = from_thread("vm", name, report)
        await trio.to_thread.run_sync(remove_volumes, record.volumes, tell)
        files = [item.memory for item in record.snapshots if item.memory is not None]
        files += [self._records.state.machine_variables(name, kind) for kind in ImageFormat]
        await trio.to_thread.run_sync(remove_files, files)
        self._records.write(name, type(record)())
        self._records.clear_journal(name)

    async def adopt(self, report: Report) -> None:
        """Go on with what a supervisor before us began: wait for what is short, not for jobs."""
        await trio.to_thread.run_sync(self._records.remove_unfinished)
        async with trio.open_nursery() as nursery:
            for name in self._machines:
                nursery.start_soon(self.space.look, name)
            for name in self._definitions:
                if self._has_begun(name, report):
                    nursery.start_soon(self._resume, name, report)

    async def settle(self, name: Name, report: Report) -> None:
        """End what could not be ended before, so that a stopped machine may start.

        Raises MachineError, StorageError.
        """
        idle = name not in self._machines and name not in self.operations
        if idle and self._records.read_journal(name) is not None:
            await self.operations.resume(name, report)

    def _has_begun(self, name: Name, report: Report) -> bool:
        """Whether something was begun with a machine; a journal that is damaged is its trouble."""
        try:
            return self._records.read_journal(name) is not None
        except QorchError as error:
            report(Progress("vm", name, message=str(error)))
            return False

    async def _resume(self, name: Name, report: Report) -> None:
        report(Progress("vm", name, "resume work on disks"))
        self.operations.resume_nowait(name, report)
        if name not in self._machines:
            await self.operations.wait_quiet(name)

    async def _do(self, name: str, what: str, operation: Operation, report: Report) -> None:
        await self.operations.do(self._definitions.find(name), what, operation, report)

    def _make_work(self, name: Name, report: Report) -> Work:
        return Work(
            name,
            report,
            self._machines,
            self._definitions,
            self._records,
            self._find_pools(),
        )


async def _wait_any(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


def _make_row(snapshot: Snapshot, branch: str, current: str | None) -> dict[str, object]:
    return {
        "name": snapshot.name,
        "parent": snapshot.parent,
        "time": snapshot.time,
        "state": snapshot.state,
        "memory": snapshot.memory is not None,
        "frozen": snapshot.frozen,
        "current": snapshot.name == current,
        "description": snapshot.description,
        "disks": {id_: str(image.path) for id_, image in snapshot.disks.items()},
        "branch": branch,
    }


def check_format(text: str) -> ImageFormat:
    """An image format by its name. Raises InputError."""
    try:
        return ImageFormat(text)
    except ValueError:
        known = ", ".join(ImageFormat)
        raise InputError.from_problems(
            [Problem("format", f"{text!r} is no image format", f"known are {known}")]
        ) from None
