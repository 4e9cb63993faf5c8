"""The supervisor: what is defined, what runs, and the verbs that change it.

Definitions are written before anything is made for them, and removed after everything of theirs is
gone: whatever a supervisor that was killed leaves on the host, a definition owns it, or the next
supervisor finds it by its mark and removes it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import attrs
import trio

from qorch.capabilities.fit import find_plan_lacks
from qorch.check import find_problems
from qorch.console import Watcher
from qorch.errors import InputError, Problem
from qorch.facts import Facts
from qorch.machine import Machine, no_console
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
from qorch.progress import Progress, Report, ignore
from qorch.resources import ensure_volume
from qorch.spec import DEFAULT_NETWORK, Spec
from qorch.state import VERSION, Definition, NetworkDefinition
from qorch.supervisor.block import Block
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.events import Events
from qorch.supervisor.gc import remove_leftovers
from qorch.supervisor.machines import Machines
from qorch.supervisor.network_verbs import NetworkVerbs
from qorch.supervisor.networks import Networks
from qorch.supervisor.options import find_option_problems
from qorch.supervisor.storage import Storage
from qorch.supervisor.tasks import from_thread, shielded
from qorch.supervisor.views import make_details, make_row
from qorch.units import Name


@attrs.define(eq=False)
class Supervisor:
    """The machines and networks of one state directory. Made by `open_supervisor`."""

    state: StateDir
    _definitions: Definitions
    _machines: Machines
    _networks: Networks
    _events: Events
    storage: Storage
    block: Block
    _changing: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    # -- looking -------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and no network is up."""
        return self._machines.is_idle and not self._networks.up

    @property
    def networks(self) -> NetworkVerbs:
        """Networks and addresses, by name."""
        return NetworkVerbs(self._networks, self._definitions, self._machines, self._changing)

    @property
    def machine_names(self) -> tuple[Name, ...]:
        """The machines that run."""
        return tuple(self._machines)

    def find_machines(self) -> list[dict[str, object]]:
        """The rows of `qorch ls`, by name."""
        machines = self._machines
        return [
            make_row(machines.plan_of(name), machines.get(name), machines.state_of(name))
            for name in sorted(self._definitions)
        ]

    async def show_machine(self, name: str) -> dict[str, object]:
        """The details of one machine. Raises NotFoundError."""
        known = self._definitions.find(name)
        machine = self._machines.get(known)
        plan, state = self._machines.plan_of(known), self._machines.state_of(known)
        details = make_details(plan, machine, state, self.state)
        failure = self._machines.failure_of(known)
        return {**details, "failure": failure, "lacks": self.block.space.find(known)}

    async def plan(
        self, spec: Spec, *, down: bool = False, report: Report = ignore
    ) -> list[Change]:
        """What `up`, or `down`, would do; changes nothing. Raises InputError.

        What a person should know about it is reported as notes.
        """
        if down:
            return make_removals(spec, self._defined, self._machines.plans)
        facts, plan = await self._make_plan(spec, report)
        return make_changes(plan, facts, self._defined, self._machines.plans)

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
        return self._machines.find(name)

    @contextmanager
    def open_console(self, name: str) -> Iterator[Watcher]:
        """The serial console from now on. Raises NotFoundError, MachineError."""
        with self.machine(name).console.watch() as watcher:
            yield watcher

    def find_log(self, name: str) -> Path:
        """The log of the console. Raises NotFoundError, and MachineError if it has none."""
        known = self._definitions.find(name)
        if not self._machines.plan_of(known).console.is_there:
            raise no_console(known)
        return self.state.machine_data(known) / "console.log"

    @contextmanager
    def open_events(
        self, machine: str | None = None
    ) -> Iterator[trio.MemoryReceiveChannel[dict[str, object]]]:
        """Events from now on, of one machine or of all. Raises NotFoundError."""
        if machine is not None:
            self._definitions.find(machine)
        with self._events.listen(machine) as events:
            yield events

    @property
    def _defined(self) -> Defined:
        networks = {name: item.plan for name, item in self._networks.defined.items()}
        defined = Defined(
            machines=self._definitions.plans, networks=networks, images=self.block.read_images()
        )
        return self.storage.add_to(defined)

    async def _make_plan(self, spec: Spec, report: Report) -> tuple[Facts, Plan]:
        if problems := find_problems(spec):
            raise InputError.from_problems(problems)
        facts = await trio.to_thread.run_sync(probe, spec, self.state, self.storage.plans)
        plan = make_plan(spec, facts, self._defined)
        find = functools.partial(self._find_lacks, plan, facts)
        problems = await trio.to_thread.run_sync(find)
        if problems:
            raise InputError.from_problems(problems)
        for note in plan.notes:
            report(Progress(note.kind, note.name, message=note.message))
        return facts, plan

    def _find_lacks(self, plan: Plan, facts: Facts) -> list[Problem]:
        """What the programs that are installed do not take of a plan."""
        options = find_option_problems(plan.networks, self._networks.dnsmasq)
        return [*find_plan_lacks(plan, facts), *options]

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

        Media and limits of a running machine are changed; if more of it has, it goes on as it is
        unless `restart`. With `wait`, its guests must be ready within so many seconds. If a step
        fails, what this call made is undone. Raises InputError, MachineError, NetError,
        StorageError.
        """
        async with AsyncExitStack() as undo:
            async with self._changing:
                facts, plan = await self._make_plan(spec, report)
                changes = make_changes(plan, facts, self._defined, self._machines.plans)
                stale = {Name(c.name) for c in changes if c.kind == "vm" and c.action == "restart"}
                live = {Name(c.name) for c in changes if c.kind == "vm" and c.action == "change"}
                restore = functools.partial(self._networks.repair_links, known=())
                undo.push_async_callback(shielded, restore, plan.networks)  # as defined by then
                self.storage.define(spec, plan, undo)
                await self._define(spec, plan, undo)
                await self._networks.bring_up(plan.networks, report, undo)
                await self._make_volumes(plan, report, undo)
            for name in sorted(stale):
                if restart:
                    await self.stop_machine(name, report=report)
                else:
                    message = "runs on as it is; the changes take effect when it is restarted"
                    report(Progress("vm", name, message=message))
            for name in sorted(live):
                await self._adapt(name, plan.machines[name], report, undo)
            await self._start_all(plan.machines, report, undo)
            self._machines.tell_lost_helpers(plan.machines, report)
            undo.pop_all()
        if wait is not None:
            await self._machines.wait_ready(plan.machines, wait, report)

    async def _adapt(
        self, name: Name, wanted: MachinePlan, report: Report, undo: AsyncExitStack
    ) -> None:
        """Change what can be changed while a machine runs."""
        if (machine := self._machines.get(name)) is not None:
            undo.push_async_callback(shielded, self.block.adapt, name, machine.plan, report)
            await self.block.adapt(name, wanted, report)

    async def _define(self, spec: Spec, plan: Plan, undo: AsyncExitStack) -> None:
        """Store definitions; undone, they are as they were."""
        for name, network in plan.networks.items():
            old = self._networks.defined.get(name)
            if old is not None and same_network(old.plan, network):
                continue
            builtin = name == DEFAULT_NETWORK and name not in spec.networks
            new = NetworkDefinition(version=VERSION, plan=network, builtin=builtin)
            undo.callback(self._networks.put, name, old)
            self._networks.put(name, new)
        for name, machine in plan.machines.items():
            definition = Definition(version=VERSION, spec=spec.vms[name], plan=machine)
            if definition != self._definitions.get(name):
                undo.callback(self._definitions.put, name, self._definitions.get(name))
                self._definitions.put(name, definition)

    async def _make_volumes(self, plan: Plan, report: Report, undo: AsyncExitStack) -> None:
        """The document's own volumes; those of a single disk are made with their machine."""
        moved = {item.origin for disks in self.block.read_images().values() for item in disks}
        for pool, volume in plan.volumes.values():
            if pool.volume_path(volume.name, volume.format) in moved:
                continue
            made = undo.enter_context(ExitStack())
            tell = from_thread("volume", volume.name, report)
            await trio.to_thread.run_sync(ensure_volume, pool, volume, tell, made)

    async def _start_all(
        self, machines: Mapping[Name, MachinePlan], report: Report, undo: AsyncExitStack
    ) -> None:
        """Start what does not run, all at once; the first error ends it."""

        async def start(name: Name) -> None:
            await self.block.settle(name, report)
            if await self._machines.start(name, report):
                undo.push_async_callback(shielded, self._machines.stop, name, 0.0)

        async with open_nursery() as nursery:
            for name in machines:
                nursery.start_soon(start, name)

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
                if name not in self._networks.defined:
                    continue
                plugged = self._networks.find_plugged(name)
                users = [user for item in plugged for user in self._definitions.users_of(item)]
                if users:
                    message = f"stays: {', '.join(users)} uses it"
                    report(Progress("network", name, message=message))
                else:
                    await self._networks.remove(name, report)
            await self._networks.tidy(report)
            if volumes:
                await self.storage.remove_volumes(spec, report)
            self.storage.forget(spec.pools, report)

    # -- one machine ---------------------------------------------------------------------------

    async def start_machine(
        self, name: str, *, report: Report = ignore, wait: float | None = None
    ) -> None:
        """Start a machine that is defined, with the networks it needs."""
        known = self._definitions.find(name)
        async with AsyncExitStack() as undo:
            async with self._changing:
                nics = self._definitions[self._definitions.find(known)].plan.nics  # it may be gone
                networks = {nic.network for nic in nics if nic.network}
                await self._networks.bring_up(sorted(networks), report, undo)
            await self.block.settle(known, report)
            await self._machines.start(known, report)
            undo.pop_all()
        if wait is not None:
            await self._machines.wait_ready([known], wait, report)

    async def stop_machine(
        self, name: str, *, report: Report = ignore, grace: float | None = None
    ) -> None:
        """Shut a machine down; after `grace` seconds (its own timeout by default) end it."""
        known = self._definitions.find(name)
        if known in self._machines:
            report(Progress("vm", known, "shut down"))
        await self._machines.stop(known, grace)

    async def kill_machine(self, name: str, *, report: Report = ignore) -> None:
        """End a machine without asking its guest."""
        known = self._definitions.find(name)
        if known in self._machines:
            report(Progress("vm", known, "kill"))
        await self._machines.stop(known, 0)

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
        await self._remove(self._definitions.find(name), report=report, volumes=volumes)
        async with self._changing:
            await self._networks.tidy(report)

    async def stop_all(self, report: Report = ignore) -> None:
        """Shut all machines down and take all networks down; definitions stay."""
        async with open_nursery() as nursery:
            for name in self._machines:
                nursery.start_soon(functools.partial(self.stop_machine, name, report=report))
        async with self._changing:
            for name in list(self._networks.up):
                await self._networks.take_down(name, report)

    async def _remove(self, name: Name, *, report: Report, volumes: bool) -> None:
        await self.stop_machine(name, report=report)
        async with self._changing, self._machines.lock(name):
            definition = self._definitions.get(name)
            if definition is None:
                return
            report(Progress("vm", name, "remove"))
            if volumes:
                await self.block.remove_volumes(name, report)
                await self.storage.remove_disks(definition.plan.disks, report)
            self._definitions.put(name, None)
            self._machines.forget(name)
            self._events.emit_nowait(name, "REMOVED", {})

    async def remove_leftovers(self, *, report: Report = ignore) -> None:
        """Remove what belongs to no definition. Raises NetError."""
        async with self._changing:
            starting = self._machines.starting
            await remove_leftovers(self._networks, self.storage, report, starting)

    # -- life ----------------------------------------------------------------------------------

    async def adopt(self, report: Report = ignore) -> None:
        """Take over what a supervisor before us left running; remove what nothing owns."""
        self._definitions.read()
        await self._machines.adopt(report)
        await self.storage.adopt(report)
        await self.block.adopt(report)
        await self._networks.adopt(report)
        self._definitions.remove_remains()
