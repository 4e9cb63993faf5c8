"""Not a test: a supervisor in its own process that fails, or dies, at one step of a verb.

embedded.py DIRECTORY DOCUMENT up|down fail|kill|list NUMBER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

import qorch
from qorch.progress import Progress


class InjectedError(Exception):
    """The failure of a step."""


async def main(directory: str, document: str, verb: str, how: str, number: str) -> None:
    """Do the verb; at the step of that number do as told."""
    count = 0

    def report(progress: Progress) -> None:
        nonlocal count
        if not progress.step:
            return
        count += 1
        print(count, progress.kind, progress.step, flush=True)  # noqa: T201
        if count == int(number) and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if count == int(number) and how == "fail":
            raise InjectedError

    spec = qorch.load_text(document, Path("/"))
    async with qorch.open_supervisor(Path(directory)) as supervisor:
        if verb == "up":
            await supervisor.up(spec, report=report)
        else:
            await supervisor.down(spec, report=report, volumes=True)


directory, document, *rest = sys.argv[1:]
trio.run(main, directory, Path(document).read_text(), *rest)
