"""Not a test: a supervisor in its own process that dies at one step of something done to disks.

embedded_block.py DIRECTORY NUMBER-OR-NAME METHOD JSON-ARGUMENTS
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import trio

import qorch
from qorch.progress import Progress


async def main(directory: str, where: str, method: str, arguments: list[Any]) -> None:
    """Do it; die at a step, by number or name. What says how far a job is counts as one."""
    seen: list[str] = []

    def report(progress: Progress) -> None:
        step = progress.step.split(": ")[0] if "%" in progress.step else progress.step
        if not step or (seen and seen[-1] == step):
            return
        seen.append(step)
        print(len(seen), step, flush=True)  # noqa: T201
        if where in {str(len(seen)), step}:
            os.kill(os.getpid(), signal.SIGKILL)

    async with qorch.open_supervisor(Path(directory)) as supervisor:
        *words, options = arguments
        if "directory" in options:
            options["directory"] = Path(options["directory"])
        await getattr(supervisor.block, method)(*words, **options, report=report)


directory, where, method, text = sys.argv[1:]
trio.run(main, directory, where, method, json.loads(text))
