"""How the supervisor's parts run things: tasks of its own, undoing, progress told from threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from qorch.progress import Progress, Report

_UNDO_DEADLINE = 30.0  # seconds for an undo while we are being cancelled

Task = Callable[[], Awaitable[object]]
Tasks = trio.MemorySendChannel[Task]
"""What is sent here runs until it ends by itself, or the supervisor ends."""


async def shielded(undo: Callable[..., Awaitable[object]], *args: object) -> None:
    """Undo something although we are being cancelled."""
    with trio.CancelScope(shield=True), trio.move_on_after(_UNDO_DEADLINE):
        await undo(*args)


def from_thread(kind: str, name: str, report: Report) -> Callable[[str], None]:
    """A function for blocking code to name its steps with; `report` is called in trio's thread."""

    def tell(step: str) -> None:
        trio.from_thread.run_sync(report, Progress(kind, name, step))

    return tell
