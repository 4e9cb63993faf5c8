"""The machines that run: started, watched to their end, adopted from a supervisor before us."""

from __future__ import annotations

import functools
import logging
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import attrs
import trio

from qorch.block.record import Saved
from qorch.errors import MachineError, QorchError
from qorch.helpers import end_helper, find_helpers
from qorch.machine import Machine, Memory, State
from qorch.paths import StateDir
from qorch.plan import MachinePlan
from qorch.process import Process, describe_end, find_processes
from qorch.progress import Progress, Report
from qorch.qmp import Transcript
from qorch.ready import wait_ready
from qorch.resources import Started, is_locked, remove_taps, remove_volumes, start_qemu
from qorch.state import Store
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.events import Events
from qorch.supervisor.tasks import Tasks, from_thread, shielded
from qorch.units import Name
from qorch_net.errors import NetError

_ADOPT_DEADLINE = 10.0  # seconds for a QEMU found running to answer
_log = logging.getLogger("qorch")

_QEMU_ENV = ("PATH", "TMPDIR", "LANG")


@attrs.define(eq=False)
class _Launch:
    """A machine on its way: `settled` when its guest runs, or when it never will."""

    machine: Machine
    adopted: bool = False
    settled: trio.Event = attrs.field(factory=trio.Event)
    error: QorchError | None = None

    def started(self, _value: object = None) -> None:
        """What trio calls a task status."""
        self.settled.set()


@attrs.define(eq=False)
class Machines:
    """The running machines of one state directory, by name."""

    state: StateDir
    qemu: Path
    transcripts: Callable[[str], Transcript] | None
    _tasks: Tasks
    _store: Store
    _definitions: Definitions
    _events: Events
    _running: dict[Name, Machine] = attrs.field(factory=dict, init=False)
    _crashed: dict[Name, str] = attrs.field(factory=dict, init=False)  # how each has ended
    _starting: set[Name] = attrs.field(factory=set, init=False)
    _locks: dict[Name, trio.Lock] = attrs.field(factory=dict, init=False)

    def __contains__(self, name: object) -> bool:
        return name in self._running

    def __iter__(self) -> Iterator[Name]:
        return iter(tuple(self._running))

    @property
    def is_idle(self) -> bool:
        """Whether none runs or starts."""
        return not (self._running or self._starting)

    @property
    def starting(self) -> Collection[Name]:
        """Those whose QEMU is on its way; its lock may not be held yet."""
        return self._starting

    @property
    def plans(self) -> dict[Name, MachinePlan]:
        """What runs, as it runs."""
        return {name: machine.plan for name, machine in self._running.items()}

    def get(self, name: Name) -> Machine | None:
        """A machine that runs."""
        return self._running.get(name)

    def find(self, name: str) -> Machine:
        """A running machine. Raises NotFoundError, and MachineError if it does not run."""
        machine = self._running.get(self._definitions.find(name))
        if machine is None:
            raise MachineError(f"{name} is not running", f"qorch start {name}")
        return machine

    def plan_of(self, name: Name) -> MachinePlan:
        """What runs; else what would."""
        machine = self._running.get(name)
        return machine.plan if machine else self._definitions[name].plan

    def state_of(self, name: Name) -> State:
        """What a machine is doing."""
        if machine := self._running.get(name):
            return machine.state
        if name in self._starting:
            return State.STARTING
        if self._store.is_saved(name):
            return State.SAVED
        return State.CRASHED if name in self._crashed else State.STOPPED

    def failure_of(self, name: Name) -> str | None:
        """How a machine that has crashed ended, and QEMU's last words."""
        return self._crashed.get(name)

    def lock(self, name: Name) -> trio.Lock:
        """Held by whoever starts, changes or removes a machine."""
        return self._locks.setdefault(name, trio.Lock())

    def forget(self, name: Name) -> None:
        """Keep nothing of a machine that is not defined any more."""
        self._crashed.pop(name, None)
        self._store.write_saved(name, None)

    def tell_lost_helpers(self, names: Iterable[Name], report: Report) -> None:
        """Say which machines run without a TPM or share of theirs."""
        for name in names:
            machine = self._running.get(name)
            for helper in machine.lost_helpers if machine else ():
                message = f"runs without its {helper}, which has ended: qorch restart {name}"
                report(Progress("vm", name, message=message))

    def note_plan(self, machine: Machine) -> None:
        """Record what a running machine is now, for who adopts it."""
        self._store.write_run(machine.plan)

    def read_saved(self, name: Name) -> Saved | None:
        """The memory that a machine goes on from when it is started; None if it boots."""
        return self._store.read_saved(name)

    def write_saved(self, name: Name, saved: Saved | None) -> None:
        """Have a machine go on from memory when it is started, or boot."""
        self._store.write_saved(name, saved)

    async def start(self, name: Name, report: Report) -> bool:
        """Start a machine unless it runs; whether it was started."""
        if name in self._running and name not in self._starting:
            return False  # without its lock, which long work on its disks may hold
        async with self.lock(name):
            if name in self._running:
                return False
            defined = self._definitions[self._definitions.find(name)].plan  # removed meanwhile?
            saved = self._find_unused_memory(name)
            plan = saved.plan if saved else defined
            self._starting.add(name)
            try:
                started = await trio.to_thread.run_sync(
                    functools.partial(
                        start_qemu,
                        plan,
                        state=self.state,
                        qemu=self.qemu,
                        env={key: os.environ[key] for key in _QEMU_ENV if key in os.environ},
                        report=from_thread("vm", name, report),
                        incoming=saved is not None,
                    )
                )
                try:
                    report(Progress("vm", name, "load memory" if saved else "run"))
                except BaseException:  # nobody has taken it over yet
                    await shielded(self._discard, plan, started)
                    raise
                try:
                    await self._launch(plan, started, saved=saved)
                except BaseException:  # the caller does not want it, or its guest never ran
                    if name in self._running:
                        await shielded(self.stop, name, 0.0)
                    undo = functools.partial(remove_volumes, started.volumes)
                    await shielded(trio.to_thread.run_sync, undo)
                    raise
            finally:
                self._starting.discard(name)
            return True

    async def stop(self, name: Name, grace: float | None) -> None:
        """Stop a machine if it runs; see `Machine.stop`. Its own timeout is the default."""
        machine = self._running.get(name)
        if machine is None:
            self._crashed.pop(name, None)
            return
        await machine.stop(machine.plan.powerdown_timeout if grace is None else grace)
        await self.wait_gone(name)

    async def wait_gone(self, name: Name) -> None:
        """Wait until a machine has ended, if it runs, and its task has cleaned up."""
        machine = self._running.get(name)
        if machine is not None:
            await machine.ended.wait()
        while self._running.get(name) is machine is not None:
            await trio.lowlevel.checkpoint()

    async def wait_ready(self, names: Collection[Name], seconds: float, report: Report) -> None:
        """Wait until the guests are ready. Raises MachineError if one is not within `seconds`."""
        for name in names:
            report(Progress("vm", name, "wait until ready"))
        with trio.move_on_after(seconds) as deadline:
            for name in names:
                machine = self.find(name)
                if machine.memory is None:  # else its guest goes on as it was
                    await wait_ready(machine)
        if deadline.cancelled_caught:
            raise MachineError(
                f"not ready within {seconds:g} s: {', '.join(names)}",
                "it runs on; see qorch log NAME, and [vm.NAME.ready] for what ready means",
            )

    async def _discard(self, plan: MachinePlan, started: Started) -> None:
        """End a QEMU whose guest has not run, and what was made for it."""
        await _end(started)
        await self._remove_taps(plan)
        self._store.forget_run(plan.name)
        await trio.to_thread.run_sync(remove_volumes, started.volumes)

    async def _launch(
        self,
        plan: MachinePlan,
        started: Started,
        *,
        adopted: bool = False,
        saved: Saved | None = None,
    ) -> None:
        """Hand a QEMU over to a task of its own and wait until its guest runs."""
        name = plan.name
        note = functools.partial(self._store.write_saved, name)
        machine = Machine(
            plan,
            self.state,
            started.process,
            functools.partial(self._events.emit_nowait, name),
            self.transcripts(name) if self.transcripts else None,
            started.helpers,
            Memory(saved, note) if saved else None,
        )
        launch = _Launch(machine, adopted)
        self._running[name] = machine
        self._crashed.pop(name, None)
        self._tasks.send_nowait(functools.partial(self._run, launch))
        await launch.settled.wait()
        if launch.error is not None:
            raise launch.error

    async def _run(self, launch: _Launch) -> None:
        """A machine from here to its end, and what is left to do then."""
        machine = launch.machine
        name = machine.plan.name
        try:
            await machine.run(task_status=launch)
        except Exception as error:  # noqa: BLE001  one machine must not take the others along
            launch.error = _describe(name, error)
            if not machine.ended.is_set() and (launch.adopted or launch.settled.is_set()):
                launch.settled.set()  # a guest that runs does so all the same
                self._events.emit_nowait(name, "MONITOR_LOST", {"reason": launch.error.message})
                await machine.wait_exit()
            elif not machine.ended.is_set():
                await machine.kill()
        await self._remove_taps(machine.plan)
        await machine.end_helpers()
        self._store.forget_run(name)
        machine.process.close()
        self._running.pop(name, None)
        words = machine.last_words if machine.has_crashed else ""
        if machine.has_crashed:
            self._crashed[name] = f"{describe_end(machine.exit_status)}: {words}".rstrip(": ")
        self._events.emit_nowait(
            name,
            "CRASHED" if machine.has_crashed else "STOPPED",
            {"status": machine.exit_status, "output": words},
        )
        launch.settled.set()

    async def _remove_taps(self, plan: MachinePlan) -> None:
        """What does not go with QEMU; where the kernel refuses, the next start tries again."""
        try:
            await trio.to_thread.run_sync(remove_taps, plan)
        except (NetError, OSError) as error:
            self._events.emit_nowait(plan.name, "TAP_LEFT", {"error": str(error)})

    async def _remove_orphan_taps(self) -> None:
        """The same for machines that ended while nobody looked."""
        if not any(tap.lasts for plan in self._definitions.plans.values() for tap in plan.taps):
            return
        from qorch_net.tap import remove_orphan_taps  # noqa: PLC0415  pyroute2: 120 ms

        running = {tap.label for plan in self.plans.values() for tap in plan.taps}
        remove = functools.partial(remove_orphan_taps, self.state.owner, keep=running)
        await trio.to_thread.run_sync(remove)

    async def adopt(self, report: Report) -> None:
        """Take over what a supervisor before us left running; end what no definition owns."""
        found = await trio.to_thread.run_sync(self._find_running)
        helpers = await trio.to_thread.run_sync(self._find_helpers)
        for name in helpers.keys() - found.keys():
            for helper in helpers[name].values():
                await end_helper(helper)
        with trio.move_on_after(_ADOPT_DEADLINE):
            async with trio.open_nursery() as nursery:
                for name, process in found.items():
                    started = Started(process=process, helpers=helpers.get(name, {}))
                    nursery.start_soon(self._adopt, name, started, report)
        for name in self._store.find_runs():
            if name not in self._running:
                self._store.forget_run(name)
        for name in self._store.find_saved():
            try:
                self._find_unused_memory(name)
            except QorchError as error:  # whoever starts it is told
                report(Progress("vm", name, message=str(error)))
        await self._remove_orphan_taps()

    def _find_unused_memory(self, name: Name) -> Saved | None:
        """The memory that a machine that does not run goes on from; of no use if it was loaded."""
        saved = self._store.read_saved(name)
        if saved is not None and (saved.loaded or name not in self._definitions):
            self._store.write_saved(name, None)
            return None
        return saved

    def _find_running(self) -> dict[Name, Process]:
        """QEMUs by their mark; one that is just being executed has its lock, but no mark yet."""
        prefix = f"{self.state.owner}:vm/"
        while True:
            found = {Name(name): process for name, process in find_processes(prefix)}
            late = [
                name
                for name in self._store.find_runs()
                if name not in found and is_locked(self.state, name)
            ]
            if not late:
                return found
            for process in found.values():
                process.close()

    def _find_helpers(self) -> dict[Name, dict[str, Process]]:
        """The helpers that run, of each machine by their ids."""
        found: dict[Name, dict[str, Process]] = {}
        for name, id_, process in find_helpers(self.state.owner):
            of_machine = found.setdefault(name, {})
            number = len(of_machine)  # one may be several processes
            of_machine[id_ if id_ not in of_machine else f"{id_}+{number}"] = process
        return found

    def _read_run(self, name: Name, report: Report) -> MachinePlan | None:
        """What a machine that is defined was started as; where that is damaged, what it is now."""
        if name not in self._definitions:
            return None
        try:
            return self._store.read_run(name)
        except QorchError as error:
            report(Progress("vm", name, message=f"taken for what is defined now: {error}"))
            return self._definitions[name].plan

    async def _adopt(self, name: Name, started: Started, report: Report) -> None:
        plan = self._read_run(name, report)
        if plan is None:
            report(Progress("vm", name, message="removed: no definition owns it"))
            await _end(started)
            return
        saved = self._store.read_saved(name)
        if saved is not None and not saved.loaded:  # nothing has run in it: it can be done again
            report(Progress("vm", name, message="ended: its memory was still being loaded"))
            await _end(started)
            return
        report(Progress("vm", name, f"adopt pid {started.process.pid}"))
        try:
            await self._launch(plan, started, adopted=True, saved=saved)
        except QorchError as error:
            report(Progress("vm", name, message=f"was not adopted: {error}"))


def _describe(name: Name, error: Exception) -> QorchError:
    """What ended a machine's task; what nobody foresaw goes to the log, too."""
    if isinstance(error, QorchError):
        return error
    _log.error("internal error of machine %s", name, exc_info=error)
    return MachineError(f"{name}: internal error: {error}", "the supervisor's log says more")


async def _end(started: Started) -> None:
    started.process.send_signal(signal.SIGKILL)
    await started.process.wait()
    started.process.close()
    for helper in started.helpers.values():
        await end_helper(helper)
