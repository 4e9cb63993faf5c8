"""Being the supervisor of a state directory: the lock, the tasks, what is left in the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

from qorch.errors import QorchError
from qorch.lock import try_lock
from qorch.nursery import open_nursery
from qorch.paths import StateDir
from qorch.progress import Report, ignore
from qorch.qmp import Transcript
from qorch.state import Store
from qorch.supervisor.block import Block
from qorch.supervisor.block.records import Records
from qorch.supervisor.block.space import Space
from qorch.supervisor.core import Supervisor
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.events import Events
from qorch.supervisor.machines import Machines
from qorch.supervisor.networks import Networks
from qorch.supervisor.storage import Storage
from qorch.supervisor.tasks import Task, Tasks
from qorch.supervisor.watches import watch_links, watch_rules


@asynccontextmanager
async def open_supervisor(
    state: StateDir | Path | None = None,
    *,
    report: Report = ignore,
    transcripts: Callable[[str], Transcript] | None = None,
    lock: int | None = None,
) -> AsyncIterator[Supervisor]:
    """A supervisor in the caller's own trio program; machines run on when the block ends.

    `state` is a directory to keep everything in; by default the places are those of the command
    line. `transcripts` gives a QMP transcript to each machine, by name. `lock` is an fd of the
    locked supervisor.lock, if the caller has it already. Raises QorchError if another supervisor
    has the state directory.
    """
    if state is None:
        state = StateDir.from_environment(os.environ, euid=os.geteuid())
    elif isinstance(state, Path):
        state = StateDir.from_directory(state)
    send, receive = trio.open_memory_channel[Task](100_000)
    supervisor, networks = _make_supervisor(state, transcripts, send)
    with _hold(state, lock):
        state.default_pool.parent.mkdir(parents=True, exist_ok=True)
        async with open_nursery() as nursery:
            tasks: trio.CancelScope = await nursery.start(_run_tasks, receive)
            try:
                await nursery.start(watch_rules, networks)
                await nursery.start(watch_links, networks)
                await nursery.start(supervisor.block.space.run)
                await supervisor.adopt(report)
                yield supervisor
            finally:
                tasks.cancel()
                nursery.cancel_scope.cancel()


def _make_supervisor(
    state: StateDir, transcripts: Callable[[str], Transcript] | None, tasks: Tasks
) -> tuple[Supervisor, Networks]:
    qemu = Path(shutil.which("qemu-system-x86_64") or "qemu-system-x86_64")
    store, events = Store(state), Events()
    definitions = Definitions(store)
    machines = Machines(state, qemu, transcripts, tasks, store, definitions, events)
    networks = Networks(state, Path("dnsmasq"), tasks, store, definitions, events)
    storage = Storage(state, store, definitions)

    async def start(name: str, *, report: Report) -> None:
        await supervisor.start_machine(name, report=report)

    space = Space(machines, events, lambda: storage.plans)
    block = Block(tasks, definitions, machines, Records(state), lambda: storage.plans, start, space)
    supervisor = Supervisor(state, definitions, machines, networks, events, storage, block)
    return supervisor, networks


async def _run_tasks(
    tasks: trio.MemoryReceiveChannel[Task],
    *,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run what is sent until the scope is cancelled.

    A caller who is being cancelled may still undo what it did, and needs them for that.
    """
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery.cancel_scope)
        async for task in tasks:
            nursery.start_soon(task)


@contextmanager
def _hold(state: StateDir, lock: int | None = None) -> Iterator[None]:
    """Be the only supervisor of a state directory; `lock` is an inherited fd that says so."""
    with ExitStack() as stack:
        held = _lock(state) if lock is None else lock
        if held is None:
            raise QorchError(
                f"another supervisor runs with the state in {state.data}",
                "talk to that one (qorch ls), or choose another --state-dir",
            )
        stack.callback(os.close, held)
        try:
            yield
        finally:
            _tidy_run(state)


def _lock(state: StateDir) -> int | None:
    while True:
        state.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        state.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):  # one that ended has taken the directory with it
            return try_lock(state.supervisor_lock)


def _tidy_run(state: StateDir) -> None:
    """Leave no run directory behind if nothing runs; whoever waits for our lock looks again."""
    for directory in (state.run / "vm", state.run / "network"):
        with suppress(OSError):
            directory.rmdir()
    locks = {state.start_lock, state.supervisor_lock}
    with suppress(OSError):  # somebody else may have removed it
        if set(state.run.iterdir()) <= locks:
            for lock in locks:
                lock.unlink(missing_ok=True)
            state.run.rmdir()
