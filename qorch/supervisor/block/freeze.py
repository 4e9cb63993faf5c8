"""The guest's file systems, frozen for a moment by its agent, and thawed whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from qorch.block.record import Journal
from qorch.errors import AgentError, MachineError, QorchError
from qorch.supervisor.block.work import Work

_FREEZE_DEADLINE = 30.0  # seconds for a guest to write what it holds back
_THAW_DEADLINE = 10.0


@asynccontextmanager
async def open_frozen(
    work: Work, journal: Journal, *, wanted: bool | None
) -> AsyncIterator[Journal]:
    """Freeze the guest's file systems as long as the block lasts.

    `wanted` is None to do so where an agent answers, True to fail where none does, False not to.
    That there is something to thaw is written down beforehand, for whoever comes after us. Raises
    MachineError.
    """
    async with AsyncExitStack() as stack:
        if wanted is not False:
            journal = await _freeze(work, journal, stack, insist=wanted is True)
        yield journal


async def _freeze(work: Work, journal: Journal, stack: AsyncExitStack, *, insist: bool) -> Journal:
    try:
        await _ping(work)
    except AgentError as error:
        if insist:
            raise
        work.note(f"{error}: the file systems are as after a power cut")
        return journal
    journal = work.save(attrs.evolve(journal, thaw=True))
    stack.push_async_callback(thaw, work)
    work.step("freeze file systems")
    try:
        with trio.fail_after(_FREEZE_DEADLINE):
            async with work.machines.find(work.name).open_agent() as agent:
                count = await agent.freeze()
    except trio.TooSlowError:
        message = f"{work.name} has not frozen its file systems within {_FREEZE_DEADLINE:g} s"
        raise MachineError(message, "--no-freeze does without") from None
    work.note(f"{count} file systems are frozen for a moment")
    if journal.snapshot is None:
        return journal
    return attrs.evolve(journal, snapshot=attrs.evolve(journal.snapshot, frozen=True))


async def _ping(work: Work) -> None:
    async with work.machines.find(work.name).open_agent() as agent:
        await agent.ping()


async def thaw(work: Work) -> None:
    """Thaw what is frozen, or may be; an agent that does not answer is a note."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _THAW_DEADLINE) as scope:
        try:
            if work.machine is not None:
                async with work.machine.open_agent() as agent:
                    await agent.thaw()
        except QorchError as error:
            work.note(f"the guest's file systems may be frozen: {error}")
    if scope.cancelled_caught:
        work.note("the guest's file systems may be frozen: its agent does not answer")
