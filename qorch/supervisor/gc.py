"""Remove what carries our mark and belongs to nothing."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Collection, Iterable
from pathlib import Path

import trio

from qorch.leftovers import Leftover, find_leftovers
from qorch.process import find_processes, is_readable
from qorch.progress import Progress, Report
from qorch.supervisor.networks import Networks
from qorch.supervisor.storage import Storage
from qorch.units import Name

_SECONDS = 10.0  # for a killed process to be gone


async def remove_leftovers(
    networks: Networks, storage: Storage, report: Report, starting: Collection[Name]
) -> None:
    """Remove what `find_leftovers` finds, but for what is being started. Raises NetError."""
    state = networks.state
    found = await trio.to_thread.run_sync(find_leftovers, state)
    found = [item for item in found if item.label not in {f"vm/{name}" for name in starting}]
    for leftover in found:
        report(Progress(leftover.kind, leftover.name, "remove"))
    if found:
        await trio.to_thread.run_sync(_remove, state.owner, found)
        await networks.remove_leftovers()
        await storage.adopt(report)


def _remove(owner: str, found: Iterable[Leftover]) -> None:
    """Processes first: they may still write into the directories. Raises NetError."""
    from qorch_net.tap import remove_taps_of  # noqa: PLC0415  pyroute2: 120 ms

    labels = {x.label for x in found if x.kind == "process"}
    for label, process in find_processes(f"{owner}:"):
        if label in labels:
            process.send_signal(signal.SIGKILL)
            is_readable(process.pidfd, _SECONDS)
        process.close()
    remove_taps_of(owner, {x.label for x in found if x.kind == "interface"})
    for leftover in found:
        if leftover.kind == "directory":
            shutil.rmtree(Path(leftover.name), ignore_errors=True)
