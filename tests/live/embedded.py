"""Not a test: a supervisor in its own process to which something happens at a step of a verb.

    embedded.py DIRECTORY DOCUMENT up|down list|kill NUMBER
    embedded.py DIRECTORY DOCUMENT up fail|cancel|leave

The first does a verb once, and dies at the step of that number. The second does it again and again,
each time with a failure, a cancelled call, or a cancelled supervisor at the next step; it tells
which and waits for a line until it goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import trio

import qorch
from qorch.progress import Progress


class InjectedError(Exception):
    """The failure of a step."""


@attrs.define
class Steps:
    """What is told, counted; at one of the steps something happens."""

    number: int
    happen: Callable[..., object]
    last: str = ""
    count: int = 0

    def report(self, progress: Progress) -> None:
        """Count a step."""
        if not progress.step:
            return
        self.count += 1
        self.last = f"{self.count} {progress.kind} {progress.step}"
        if self.count == self.number:
            self.happen()


def fail() -> None:
    """Fail a step."""
    raise InjectedError


async def once(directory: Path, spec: qorch.Spec, verb: str, how: str, number: int) -> None:
    """Do the verb; at the step of that number do as told."""
    steps = Steps(number, lambda: how == "kill" and os.kill(os.getpid(), signal.SIGKILL))

    def report(progress: Progress) -> None:
        if progress.step:
            print(steps.count + 1, progress.kind, progress.step, flush=True)  # noqa: T201
        steps.report(progress)

    async with qorch.open_supervisor(directory) as supervisor:
        if verb == "up":
            await supervisor.up(spec, report=report)
        else:
            await supervisor.down(spec, report=report, volumes=True)


async def each(directory: Path, spec: qorch.Spec, how: str) -> None:
    """Do `up` with something happening at the first step, the second one, …, until it succeeds."""
    async with AsyncExitStack() as stack:
        kept = None
        if how != "leave":
            kept = await stack.enter_async_context(qorch.open_supervisor(directory))
        number = 0
        while True:
            number += 1
            scope = trio.CancelScope()
            steps = Steps(number, fail if how == "fail" else scope.cancel)
            if not await is_undone(kept, directory, spec, steps, scope):
                break
            print(steps.last, flush=True)  # noqa: T201
            await trio.to_thread.run_sync(sys.stdin.readline)
    async with qorch.open_supervisor(directory) as supervisor:
        await supervisor.down(spec, volumes=True)


async def is_undone(
    supervisor: qorch.Supervisor | None,
    directory: Path,
    spec: qorch.Spec,
    steps: Steps,
    scope: trio.CancelScope,
) -> bool:
    """Whether `up` did not come to its end, in a supervisor that is there or in one of its own."""
    with scope:
        try:
            if supervisor is not None:
                await supervisor.up(spec, report=steps.report)
            else:
                async with qorch.open_supervisor(directory) as own:
                    await own.up(spec, report=steps.report)
        except InjectedError:
            return True
    return scope.cancelled_caught


directory, document, verb, how, *rest = sys.argv[1:]
spec = qorch.load_text(Path(document).read_text(), Path("/"))
if rest:
    trio.run(once, Path(directory), spec, verb, how, int(rest[0]))
else:
    trio.run(each, Path(directory), spec, how)
