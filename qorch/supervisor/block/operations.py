"""Operations on machines' disks: one at a time for each machine, each in a task of its own.

Whoever began one may leave: it goes on. It ends by itself, by an error or by the death of QEMU; the
last two leave images in the middle of something, which is finished or undone here. What cannot be,
for a full disk, say, is tried again before the next thing is done to the machine's disks.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import attrs
import trio

from qorch.errors import MachineError, QorchError
from qorch.progress import Progress, Report
from qorch.supervisor.block.resume import resume
from qorch.supervisor.block.work import Work
from qorch.supervisor.machines import Machines
from qorch.supervisor.tasks import Tasks
from qorch.units import Name
from qorch_storage.errors import StorageError

_END_DEADLINE = 30.0  # seconds for a QEMU that has closed its monitor to be gone

Operation = Callable[[Work], Awaitable[None]]


@attrs.define(eq=False)
class Outcome:
    """How an operation has ended, once it is `done`."""

    what: str
    done: trio.Event = attrs.field(factory=trio.Event)
    error: Exception | None = None


@attrs.define(eq=False)
class Operations:
    """What is being done to disks."""

    _tasks: Tasks
    _machines: Machines
    _make_work: Callable[[Name, Report], Work]
    _busy: dict[Name, Outcome] = attrs.field(factory=dict, init=False)

    def __contains__(self, name: object) -> bool:
        return name in self._busy

    def describe(self, name: Name) -> str:
        """What is being done to a machine's disks; empty if nothing is."""
        outcome = self._busy.get(name)
        return outcome.what if outcome else ""

    async def wait_quiet(self, name: Name) -> None:
        """Wait until nothing is being done to a machine's disks."""
        while (outcome := self._busy.get(name)) is not None:
            await outcome.done.wait()

    async def do(self, name: Name, what: str, operation: Operation, report: Report) -> None:
        """Do something, and raise what it raises; MachineError if something else is being done."""
        outcome = self.begin(name, what, operation, report)
        await outcome.done.wait()
        if outcome.error is not None:
            raise outcome.error

    def resume_nowait(self, name: Name, report: Report) -> None:
        """Begin to end what was begun before."""
        self.begin(name, "resume", _do_nothing, report)

    async def resume(self, name: Name, report: Report) -> None:
        """End what was begun before, and raise what stands in the way."""
        await self.do(name, "resume", _do_nothing, report)

    def begin(self, name: Name, what: str, operation: Operation, report: Report) -> Outcome:
        """Begin something. Raises MachineError if something else is being done."""
        if name in self._busy:
            raise _busy_error(name, self._busy[name].what)
        self._busy[name] = outcome = Outcome(what)
        self._tasks.send_nowait(functools.partial(self._run, name, operation, report, outcome))
        return outcome

    async def _run(
        self, name: Name, operation: Operation, report: Report, outcome: Outcome
    ) -> None:
        """An operation to its end: an error, or a QEMU that dies, leads to its undoing."""
        try:
            async with self._machines.lock(name):
                work = self._make_work(name, report)
                try:
                    await resume(work, go_on=True)  # what was begun before, if anything was
                    await operation(work)
                except Exception as error:  # noqa: BLE001  whoever waits for the outcome raises it
                    outcome.error = error
                    await self._settle(name, report)
        except Exception as error:  # noqa: BLE001
            outcome.error = outcome.error or error
        finally:
            del self._busy[name]
            outcome.done.set()

    async def _settle(self, name: Name, report: Report) -> None:
        """After a failure: leave the images in one of the states that they may be in.

        A QEMU that dies meanwhile leaves it to us to do that without it.
        """
        while True:
            await self._wait_gone_if_lost(name)
            ran = name in self._machines
            try:
                await resume(self._make_work(name, report), go_on=not ran)
            except (QorchError, StorageError) as error:
                await self._wait_gone_if_lost(name)
                if ran and name not in self._machines:
                    continue
                message = f"not cleaned up, what comes next does it: {error}"
                report(Progress("vm", name, message=message))
            return

    async def _wait_gone_if_lost(self, name: Name) -> None:
        """Wait for the end of a QEMU that does not answer any more."""
        try:
            if (machine := self._machines.get(name)) is not None:
                await machine.monitor.execute("query-status")
        except QorchError:
            with trio.move_on_after(_END_DEADLINE):
                await self._machines.wait_gone(name)


async def _do_nothing(_work: Work) -> None:
    """What is done after what was begun before."""


def _busy_error(name: str, what: str) -> MachineError:
    return MachineError(
        f"{name} is busy: {what}", f"wait for it, or end it: qorch job cancel {name}"
    )
