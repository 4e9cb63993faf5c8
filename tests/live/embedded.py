"""Not a test: a supervisor in its own process to which something happens at a step of a verb.

    embedded.py DIRECTORY DOCUMENT fail|cancel|leave
    embedded.py DIRECTORY DOCUMENT kill

The first does `up` again and again, each time with a failure, a cancelled call, or a cancelled
supervisor at the next step. The second dies at the first step of `up`, of `down`, at the second
step of each, and so on; each time as a child, which does the other verb first. Both tell what is so
and wait for a line until they go on.
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
from qorch.progress import Progress, Report, ignore


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


async def kill(directory: Path, spec: qorch.Spec, verb: str, number: int) -> None:
    """Do the other verb to its end, as a retry; then this one, with a death at a step."""
    steps = Steps(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    async with qorch.open_supervisor(directory) as supervisor:

        async def do(verb: str, report: Report) -> None:
            if verb == "up":
                await supervisor.up(spec, report=report)
            else:
                await supervisor.down(spec, report=report, volumes=True)

        await do("down" if verb == "up" else "up", ignore)
        states = [str(machine["state"]) for machine in supervisor.find_machines()]
        await tell(" ".join(["there:", *states]))
        await do(verb, steps.report)


def die_at_each_step(directory: Path, spec: qorch.Spec) -> None:
    """Do each verb until neither has a step of that number."""
    killed, number = {"up", "down"}, 0
    while killed:
        number += 1
        killed = {verb for verb in ("up", "down") if dies(directory, spec, verb, number)}


def dies(directory: Path, spec: qorch.Spec, verb: str, number: int) -> bool:
    """Whether there is a step of that number; the child has imported already what takes long."""
    child = os.fork()
    if not child:
        trio.run(kill, directory, spec, verb, number)
        sys.exit()
    _, status = os.waitpid(child, 0)
    if status not in {0, signal.SIGKILL}:
        sys.exit(f"{verb} killed at step {number}: wait status {status}")
    return status != 0


async def tell(what: str) -> None:
    """Say how far we are, and wait until we may go on."""
    print(what, flush=True)  # noqa: T201
    await trio.to_thread.run_sync(sys.stdin.readline)


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
            await tell(steps.last)
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


directory, document, how = sys.argv[1:]
spec = qorch.load_text(Path(document).read_text(), Path("/"))
if how == "kill":
    die_at_each_step(Path(directory), spec)
else:
    trio.run(each, Path(directory), spec, how)
