"""The guest's file systems, frozen for a moment by its agent, and thawed whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from qorch.block.record import Journal
from qorch.errors import MachineError, QorchError
from qorch.supervisor.block.work import Work

_THAW_DEADLINE = 10.0  # seconds


@asynccontextmanager
async def open_frozen(
    work: Work, journal: Journal, *, wanted: bool | None
) -> AsyncIterator[Journal]:
    """Freeze the guest's file systems as long as the block lasts.

    `wanted` is None to do so where an agent answers, True to fail where none does, False not to.
    The journal says beforehand that there may be something to thaw. Raises MachineError.
    """
    if wanted is False:
        yield journal
        return
    reason = "no guest agent answers"
    if wanted:
        raise MachineError(f"{work.name}: {reason}", "leave --freeze out for a snapshot without it")
    work.note(f"{reason}: the file systems are as after a power cut")
    yield journal


async def thaw(work: Work) -> None:
    """Thaw what an operation that was cut short may have left frozen."""
    with trio.move_on_after(_THAW_DEADLINE):
        try:
            await _thaw(work)
        except QorchError as error:
            work.note(f"the guest's file systems may be frozen: {error}")


async def _thaw(work: Work) -> None:
    attrs.has(type(work))
    await trio.lowlevel.checkpoint()
