"""The supervisor: what is defined, what runs, and the verbs that change it.

Definitions are written before anything is made for them, and removed after everything of theirs is
gone: whatever a supervisor that was killed leaves on the host, a definition owns it, or the next
supervisor finds it by its mark and removes it.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import attrs
import trio

from qorch.check import find_problems
from qorch.console import Watcher
from qorch.errors import InputError, MachineError, NotFoundError, QorchError
from qorch.facts import Facts
from qorch.machine import Machine, State
from qorch.nursery import open_nursery
from qorch.paths import StateDir
from qorch.plan import (
    Change,
    Defined,
    MachinePlan,
    Plan,
    make_changes,
    make_plan,
    make_removals,
    same_network,
)
from qorch.probe import probe
from qorch.process import Process, find_processes
from qorch.progress import Progress, Report, ignore
from qorch.qmp import Transcript
from qorch.ready import wait_ready
from qorch.resources import ensure_volume, is_locked, start_qemu
from qorch.spec import DEFAULT_NETWORK, Spec
from qorch.state import VERSION, Definition, NetworkDefinition, Store
from qorch.supervisor.events import Events
from qorch.supervisor.networks import Networks
from qorch.supervisor.views import make_details, make_row
from qorch.units import Name
from qorch_net.errors import NetError
from qorch_storage.pool import DirPool

_ADOPT_DEADLINE = 10.0  # seconds for a QEMU found running to answer
_QEMU_ENV = ("PATH", "TMPDIR", "LANG")

Task = Callable[[], Awaitable[object]]


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
class Supervisor:
    """The machines and networks of one state directory. Made by `open_supervisor`."""

    state: StateDir
    qemu: Path
    transcripts: Callable[[str], Transcript] | None
    _tasks: trio.MemorySendChannel[Task]
    _store: Store
    _networks: Networks
    _definitions: dict[Name, Definition] = attrs.field(factory=dict)
    _machines: dict[Name, Machine] = attrs.field(factory=dict)
    _crashed: set[Name] = attrs.field(factory=set)
    _starting: set[Name] = attrs.field(factory=set)
    _locks: dict[Name, trio.Lock] = attrs.field(factory=dict)
    _changing: trio.Lock = attrs.field(factory=trio.Lock)
    _events: Events = attrs.field(factory=Events)

    # -- looking -------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and no network is up."""
        return not (self._machines or self._starting or self._networks.up)

    @property
    def machine_names(self) -> tuple[Name, ...]:
        """The machines that run."""
        return tuple(self._machines)

    def find_machines(self) -> list[dict[str, object]]:
        """The rows of `qorch ls`, by name."""
        return [
            make_row(self._plan_of(name), self._machines.get(name), self._state_of(name))
            for name in sorted(self._definitions)
        ]

    async def show_machine(self, name: str) -> dict[str, object]:
        """The details of one machine. Raises NotFoundError."""
        known = self._find(name)
        machine = self._machines.get(known)
        return make_details(self._plan_of(known), machine, self._state_of(known), self.state)

    async def plan(self, spec: Spec, *, down: bool = False) -> list[Change]:
        """What `up`, or `down`, would do; changes nothing. Raises InputError."""
        if down:
            return make_removals(spec, self._defined, self._machines)
        facts, plan = await self._make_plan(spec)
        return make_changes(plan, facts, self._defined, self._running)

    async def wait_idle(self) -> None:
        """Wait until nothing runs and no network is up."""
        with self._events.listen() as events:
            while not self.is_idle:
                await events.receive()

    async def wait_ended(self, names: Iterable[Name]) -> None:
        """Wait until none of these machines runs."""
        with self._events.listen() as events:
            while any(name in self._machines for name in names):
                await events.receive()

    def machine(self, name: str) -> Machine:
        """A running machine. Raises NotFoundError, and MachineError if it does not run."""
        machine = self._machines.get(self._find(name))
        if machine is None:
            raise MachineError(f"{name} is not running", f"qorch start {name}")
        return machine

    @contextmanager
    def open_console(self, name: str) -> Iterator[Watcher]:
        """The serial console from now on. Raises NotFoundError, MachineError."""
        with self.machine(name).console.watch() as watcher:
            yield watcher

    def find_log(self, name: str) -> Path:
        """The log of the serial console. Raises NotFoundError."""
        return self.state.machine_data(self._find(name)) / "console.log"

    @contextmanager
    def open_events(
        self, machine: str | None = None
    ) -> Iterator[trio.MemoryReceiveChannel[dict[str, object]]]:
        """Events from now on, of one machine or of all. Raises NotFoundError."""
        if machine is not None:
            self._find(machine)
        with self._events.listen(machine) as events:
            yield events

    def _find(self, name: str) -> Name:
        if name not in self._definitions:
            known = ", ".join(sorted(self._definitions)) or "none"
            raise NotFoundError(f"there is no machine {name!r}", f"machines: {known}")
        return Name(name)

    def _plan_of(self, name: Name) -> MachinePlan:
        """What runs; else what would."""
        machine = self._machines.get(name)
        return machine.plan if machine else self._definitions[name].plan

    def _state_of(self, name: Name) -> State:
        if machine := self._machines.get(name):
            return machine.state
        if name in self._starting:
            return State.STARTING
        return State.CRASHED if name in self._crashed else State.STOPPED

    @property
    def _defined(self) -> Defined:
        networks = {name: item.plan for name, item in self._networks.defined.items()}
        return Defined(machines=self._plans, networks=networks)

    @property
    def _plans(self) -> dict[Name, MachinePlan]:
        return {name: definition.plan for name, definition in self._definitions.items()}

    @property
    def _running(self) -> dict[Name, MachinePlan]:
        return {name: machine.plan for name, machine in self._machines.items()}

    async def _make_plan(self, spec: Spec) -> tuple[Facts, Plan]:
        if problems := find_problems(spec):
            raise InputError.from_problems(problems)
        facts = await trio.to_thread.run_sync(probe, spec, self.state)
        return facts, make_plan(spec, facts, self._defined)

    # -- up and down ---------------------------------------------------------------------------

    async def up(
        self,
        spec: Spec,
        *,
        report: Report = ignore,
        wait: float | None = None,
        restart: bool = False,
    ) -> None:
        """Make what a document describes be there and run; change only what differs.

        A running machine whose description changed goes on as it is unless `restart`. With `wait`,
        its guests must be ready within so many seconds. If a step fails, what this call made is
        undone. Raises InputError, MachineError, NetError, StorageError.
        """
        async with AsyncExitStack() as undo:
            async with self._changing:
                facts, plan = await self._make_plan(spec)
                for note in plan.notes:
                    report(Progress(note.kind, note.name, message=note.message))
                changes = make_changes(plan, facts, self._defined, self._running)
                stale = {Name(c.name) for c in changes if c.kind == "vm" and c.action == "restart"}
                await self._define(spec, plan, undo)
                await self._ensure_networks(plan.networks, report, undo)
                await self._make_volumes(plan, report, undo)
            for name in sorted(stale):
                if restart:
                    await self.stop_machine(name, report=report)
                else:
                    message = "runs on as it is; the changes take effect when it is restarted"
                    report(Progress("vm", name, message=message))
            await self._start_all(plan.machines, report, undo)
            undo.pop_all()
        if wait is not None:
            await self._wait_all(plan.machines, wait, report)

    async def _define(self, spec: Spec, plan: Plan, undo: AsyncExitStack) -> None:
        """Store definitions; undone, they are as they were."""
        for name, network in plan.networks.items():
            old = self._networks.defined.get(name)
            if old is not None and same_network(old.plan, network):
                continue
            builtin = name == DEFAULT_NETWORK and name not in spec.networks
            new = NetworkDefinition(version=VERSION, plan=network, builtin=builtin)
            undo.callback(self._put_network, name, old)
            self._put_network(name, new)
        for name, machine in plan.machines.items():
            definition = Definition(version=VERSION, spec=spec.vms[name], plan=machine)
            if definition != self._definitions.get(name):
                undo.callback(self._put_machine, name, self._definitions.get(name))
                self._put_machine(name, definition)

    def _put_machine(self, name: Name, definition: Definition | None) -> None:
        if definition is None:
            self._definitions.pop(name, None)
            self._store.remove_machine(name)
        else:
            self._store.write_machine(definition)
            self._definitions[name] = definition

    def _put_network(self, name: Name, definition: NetworkDefinition | None) -> None:
        if definition is None:
            self._networks.defined.pop(name, None)
            self._store.remove_network(name)
        else:
            self._store.write_network(definition)
            self._networks.defined[name] = definition

    async def _ensure_networks(
        self, names: Iterable[Name], report: Report, undo: AsyncExitStack
    ) -> None:
        for name in names:
            fresh = name not in self._networks.up
            if fresh:
                undo.push_async_callback(self._shielded, self._take_down, name, ignore)
            await self._networks.ensure(name, self._plans, report)
            if fresh:
                self._watch_network(name)

    def _watch_network(self, name: Name) -> None:
        async def repair() -> None:
            report = functools.partial(self._note_repair, name)
            try:
                await self._networks.ensure(name, self._plans, report)
            except NetError as error:  # tried again after a while
                self._emit_network("NETWORK_BROKEN", name, error=error.message)

        self._tasks.send_nowait(functools.partial(self._networks.watch, name, repair))

    def _note_repair(self, name: Name, progress: Progress) -> None:
        self._emit_network("NETWORK_REPAIRED", name, step=progress.step)

    def _emit_network(self, event: str, name: Name, **data: object) -> None:
        self._events.emit_nowait("", event, {"network": name, **data})

    async def _make_volumes(self, plan: Plan, report: Report, undo: AsyncExitStack) -> None:
        """The document's own volumes; those of a single disk are made with their machine."""
        for pool, volume in plan.volumes.values():
            made = undo.enter_context(ExitStack())
            tell = _from_thread("volume", volume.name, report)
            await trio.to_thread.run_sync(ensure_volume, pool, volume, tell, made)

    async def _start_all(
        self, machines: Mapping[Name, MachinePlan], report: Report, undo: AsyncExitStack
    ) -> None:
        """Start what does not run, all at once; the first error ends it."""

        async def start(name: Name) -> None:
            if await self._start(name, report):
                undo.push_async_callback(self._shielded, self._stop, name, 0.0)

        async with open_nursery() as nursery:
            for name in machines:
                nursery.start_soon(start, name)

    async def _wait_all(self, machines: Iterable[Name], seconds: float, report: Report) -> None:
        for name in machines:
            report(Progress("vm", name, "wait until ready"))
        with trio.move_on_after(seconds) as deadline:
            for name in machines:
                await wait_ready(self.machine(name))
        if deadline.cancelled_caught:
            raise MachineError(
                f"not ready within {seconds:g} s: {', '.join(machines)}",
                "it runs on; see qorch log NAME, and [vm.NAME.ready] for what ready means",
            )

    async def down(self, spec: Spec, *, report: Report = ignore, volumes: bool = False) -> None:
        """Remove what a document defines: machines, networks and, with `volumes`, their volumes.

        Raises NetError, StorageError.
        """
        async with open_nursery() as nursery:
            for name in spec.vms:
                if name in self._definitions:
                    nursery.start_soon(
                        functools.partial(self._remove, name, report=report, volumes=volumes)
                    )
        async with self._changing:
            for name in spec.networks:
                users = self._users_of(name)
                if users:
                    message = f"stays: {', '.join(users)} uses it"
                    report(Progress("network", name, message=message))
                elif name in self._networks.defined:
                    await self._remove_network(name, report)
            await self._tidy_networks(report)

    async def _remove_network(self, name: Name, report: Report) -> None:
        await self._take_down(name, report)
        self._put_network(name, None)

    async def _take_down(self, name: Name, report: Report) -> None:
        await self._networks.remove(name, report)
        self._emit_network("NETWORK_DOWN", name)

    async def _tidy_networks(self, report: Report) -> None:
        """Remove built-in networks that nobody uses; the others forget who was removed."""
        for name, definition in list(self._networks.defined.items()):
            if definition.builtin and not self._users_of(name):
                await self._remove_network(name, report)
            elif name in self._networks.up:
                await self._networks.ensure(name, self._plans, report)

    def _users_of(self, network: Name) -> list[Name]:
        return [
            name
            for name, plan in self._plans.items()
            if any(nic.network == network for nic in plan.nics)
        ]

    # -- one machine ---------------------------------------------------------------------------

    async def start_machine(
        self, name: str, *, report: Report = ignore, wait: float | None = None
    ) -> None:
        """Start a machine that is defined, with the networks it needs."""
        known = self._find(name)
        async with AsyncExitStack() as undo:
            async with self._changing:
                networks = {nic.network for nic in self._definitions[known].plan.nics}
                await self._ensure_networks(sorted(networks), report, undo)
            await self._start(known, report)
            undo.pop_all()
        if wait is not None:
            await self._wait_all([known], wait, report)

    async def stop_machine(
        self, name: str, *, report: Report = ignore, grace: float | None = None
    ) -> None:
        """Shut a machine down; after `grace` seconds (its own timeout by default) end it."""
        known = self._find(name)
        if known in self._machines:
            report(Progress("vm", known, "shut down"))
        await self._stop(known, grace)

    async def kill_machine(self, name: str, *, report: Report = ignore) -> None:
        """End a machine without asking its guest."""
        known = self._find(name)
        if known in self._machines:
            report(Progress("vm", known, "kill"))
        await self._stop(known, 0)

    async def restart_machine(
        self,
        name: str,
        *,
        report: Report = ignore,
        grace: float | None = None,
        wait: float | None = None,
    ) -> None:
        """Stop a machine and start it again, as it is defined now."""
        await self.stop_machine(name, report=report, grace=grace)
        await self.start_machine(name, report=report, wait=wait)

    async def remove_machine(
        self, name: str, *, report: Report = ignore, volumes: bool = False
    ) -> None:
        """Stop a machine and forget it; with `volumes`, remove the volumes made for it."""
        await self._remove(self._find(name), report=report, volumes=volumes)
        async with self._changing:
            await self._tidy_networks(report)

    async def stop_all(self, report: Report = ignore) -> None:
        """Shut all machines down and take all networks down; definitions stay."""
        async with open_nursery() as nursery:
            for name in self._machines:
                nursery.start_soon(functools.partial(self.stop_machine, name, report=report))
        async with self._changing:
            for name in list(self._networks.up):
                await self._take_down(name, report)

    async def _remove(self, name: Name, *, report: Report, volumes: bool) -> None:
        await self.stop_machine(name, report=report)
        async with self._changing, self._lock(name):
            definition = self._definitions.get(name)
            if definition is None:
                return
            report(Progress("vm", name, "remove"))
            for disk in definition.plan.disks if volumes else ():
                if disk.pool is not None and disk.volume is not None:
                    pool = DirPool.from_plan(disk.pool)
                    tell = _from_thread("volume", disk.volume.name, report)
                    await trio.to_thread.run_sync(
                        functools.partial(
                            pool.remove_volume, disk.volume.name, disk.volume.format, report=tell
                        )
                    )
            self._put_machine(name, None)
            self._crashed.discard(name)
            self._events.emit_nowait(name, "REMOVED", {})

    def _lock(self, name: Name) -> trio.Lock:
        return self._locks.setdefault(name, trio.Lock())

    async def _stop(self, name: Name, grace: float | None) -> None:
        machine = self._machines.get(name)
        if machine is None:
            self._crashed.discard(name)
            return
        await machine.stop(machine.plan.powerdown_timeout if grace is None else grace)
        while self._machines.get(name) is machine:  # until its task has cleaned up
            await trio.lowlevel.checkpoint()

    async def _start(self, name: Name, report: Report) -> bool:
        """Start a machine unless it runs; whether it was started."""
        async with self._lock(name):
            if name in self._machines:
                return False
            plan = self._definitions[self._find(name)].plan  # it may have been removed meanwhile
            self._starting.add(name)
            try:
                process = await trio.to_thread.run_sync(
                    functools.partial(
                        start_qemu,
                        plan,
                        state=self.state,
                        qemu=self.qemu,
                        env={key: os.environ[key] for key in _QEMU_ENV if key in os.environ},
                        report=_from_thread("vm", name, report),
                    )
                )
                report(Progress("vm", name, "run"))
                await self._launch(plan, process)
            finally:
                self._starting.discard(name)
            return True

    async def _launch(self, plan: MachinePlan, process: Process, *, adopted: bool = False) -> None:
        """Hand a QEMU over to a task of its own and wait until its guest runs."""
        name = plan.name
        machine = Machine(
            plan,
            self.state,
            process,
            functools.partial(self._events.emit_nowait, name),
            self.transcripts(name) if self.transcripts else None,
        )
        launch = _Launch(machine, adopted)
        self._machines[name] = machine
        self._crashed.discard(name)
        self._tasks.send_nowait(functools.partial(self._run_machine, launch))
        await launch.settled.wait()
        if launch.error is not None:
            raise launch.error

    async def _run_machine(self, launch: _Launch) -> None:
        """A machine from here to its end, and what is left to do then."""
        machine = launch.machine
        name = machine.plan.name
        try:
            await machine.run(task_status=launch)
        except QorchError as error:
            launch.error = error
            if not machine.ended.is_set() and launch.adopted:
                launch.settled.set()  # a guest that ran before us runs on all the same
                await machine.wait_exit()
            elif not machine.ended.is_set():
                await machine.kill()
        self._store.forget_run(name)
        machine.process.close()
        self._machines.pop(name, None)
        if machine.has_crashed:
            self._crashed.add(name)
        words = machine.last_words if machine.has_crashed else ""
        self._events.emit_nowait(
            name,
            "CRASHED" if machine.has_crashed else "STOPPED",
            {"status": machine.exit_status, "output": words},
        )
        launch.settled.set()

    async def _shielded(self, undo: Callable[..., Awaitable[object]], *args: object) -> None:
        """Undo something although we are being cancelled."""
        with trio.CancelScope(shield=True), trio.move_on_after(30):
            await undo(*args)

    # -- life ----------------------------------------------------------------------------------

    async def adopt(self, report: Report = ignore) -> None:
        """Take over what a supervisor before us left running; remove what nothing owns."""
        self._definitions |= self._store.read_machines()
        self._networks.defined |= self._store.read_networks()
        found = await trio.to_thread.run_sync(self._find_running)
        with trio.move_on_after(_ADOPT_DEADLINE):
            async with trio.open_nursery() as nursery:
                for name, process in found.items():
                    nursery.start_soon(self._adopt_machine, name, process, report)
        for name in self._store.find_runs():
            if name not in self._machines:
                self._store.forget_run(name)
        DirPool("default", self.state.default_pool).remove_stale()
        await self._networks.adopt(self._plans, report)
        for name in list(self._networks.up):
            self._watch_network(name)
        for name, definition in list(self._networks.defined.items()):
            if definition.builtin and not self._users_of(name):
                await self._remove_network(name, report)

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

    async def _adopt_machine(self, name: Name, process: Process, report: Report) -> None:
        plan = self._store.read_run(name) if name in self._definitions else None
        if plan is None:
            report(Progress("vm", name, message="removed: no definition owns it"))
            await _kill(process)
            return
        report(Progress("vm", name, f"adopt pid {process.pid}"))
        try:
            await self._launch(plan, process, adopted=True)
        except QorchError as error:
            report(Progress("vm", name, message=f"was not adopted: {error}"))


async def _kill(process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()
    process.close()


def _from_thread(kind: str, name: str, report: Report) -> Callable[[str], None]:
    def tell(step: str) -> None:
        trio.from_thread.run_sync(report, Progress(kind, name, step))

    return tell
