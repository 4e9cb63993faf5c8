"""Jobs in a running QEMU, followed to their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from qorch.block.commands import Command, complete_job, dismiss_job, finalize_job
from qorch.block.graph import Graph
from qorch.block.jobs import Job, JobStatus, read_jobs
from qorch.errors import MachineError
from qorch.qmp import CommandError, EventsLostError, Listener, Monitor
from qorch_storage.run import find_hint

_LOOK = 0.5  # seconds between two looks at a job's progress
_EVENTS = ("JOB_STATUS_CHANGE", "BLOCK_JOB_CANCELLED")


@attrs.define(eq=False)
class JobFailedError(MachineError):
    """A job ended without its result: QEMU said why, or somebody cancelled it."""


async def execute(monitor: Monitor, command: Command) -> object:
    """Have QEMU do one command. Raises QmpError."""
    return await monitor.execute(command.name, command.arguments)


async def find_graph(monitor: Monitor) -> Graph:
    """Look at the block graph."""
    blocks = await monitor.execute("query-block")
    nodes = await monitor.execute("query-named-block-nodes")
    return Graph.from_qmp(blocks, nodes)


async def find_jobs(monitor: Monitor) -> dict[str, Job]:
    """Look at the jobs, by id."""
    return read_jobs(await monitor.execute("query-jobs"))


async def run_job(
    monitor: Monitor,
    job: str,
    *,
    start: Command | None,
    report: Callable[[Job], None],
    on_pending: Callable[[], Awaitable[None]] | None = None,
    until_ready: bool = False,
) -> None:
    """Start a job (or, without `start`, take over one that is there) and see it to its end.

    `on_pending` runs when the job's result is complete, flushed and not in place yet. Cancelling
    this call leaves the job as it is. Raises JobFailedError, QmpError.
    """
    with monitor.listen(*_EVENTS) as events:
        if start is not None:
            await execute(monitor, start)
        follower = _Follower(monitor, events, job)
        while (found := await follower.look()) is not None:
            report(found)
            if until_ready and found.status in {JobStatus.READY, JobStatus.RUNNING}:
                return
            if await follower.advance(found, on_pending):
                return
            await follower.wait()
    raise JobFailedError(f"the job {job} is gone", "QEMU, or somebody else, has ended it")


@attrs.define(eq=False)
class _Follower:
    monitor: Monitor
    events: Listener
    job: str
    cancelled: bool = False

    async def look(self) -> Job | None:
        return (await find_jobs(self.monitor)).get(self.job)

    async def advance(self, job: Job, on_pending: Callable[[], Awaitable[None]] | None) -> bool:
        """Do what the job's state asks for; whether it is over."""
        match job.status:
            case JobStatus.READY:
                await self._try(complete_job(self.job))
            case JobStatus.PENDING:
                if on_pending is not None:
                    await on_pending()
                await self._try(finalize_job(self.job))
            case JobStatus.CONCLUDED:
                await self._conclude(job)
                return True
        return False

    async def _try(self, command: Command) -> None:
        """A job may have moved on, or been cancelled, since we looked: then we look again."""
        try:
            await execute(self.monitor, command)
        except CommandError:
            if await self.look() is None:
                raise

    async def _conclude(self, job: Job) -> None:
        self._take_waiting()
        await execute(self.monitor, dismiss_job(self.job))
        if self.cancelled:
            raise JobFailedError(f"{job.type} was cancelled", "start it again")
        if job.error is not None:
            raise JobFailedError(f"{job.type} failed: {job.error}", find_hint(job.error))

    def _take_waiting(self) -> None:
        while (event := self.events.take_nowait()) is not None:
            self.cancelled |= event.name == "BLOCK_JOB_CANCELLED" and (
                event.data.get("device") == self.job
            )

    async def wait(self) -> None:
        """Wait until something has happened to a job, or it is time to look at its progress."""
        with trio.move_on_after(_LOOK):
            try:
                event = await anext(self.events)
            except EventsLostError:
                return
            if event.name == "BLOCK_JOB_CANCELLED" and event.data.get("device") == self.job:
                self.cancelled = True
