"""The supervisor's networks: brought up before their machines, watched, taken down after them.

qorch_net works synchronously; each of its calls runs in a thread, one call at a time.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import trio

from qorch.paths import StateDir
from qorch.plan import add_leases
from qorch.progress import Progress, Report, ignore
from qorch.state import NetworkDefinition, Store
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.events import Events
from qorch.supervisor.tasks import Tasks, from_thread, shielded
from qorch.units import Name
from qorch_net.errors import NetError
from qorch_net.plan import NetworkPlan
from qorch_net.watch import LinkChanges

_RESTART_DELAY = 1.0  # seconds before a dnsmasq that died is started again


@attrs.define(eq=False)
class Networks:
    """The networks of one state directory, by what is defined and what the kernel has."""

    state: StateDir
    dnsmasq: Path
    _tasks: Tasks
    _store: Store
    _machines: Definitions
    _events: Events
    defined: dict[Name, NetworkDefinition] = attrs.field(factory=dict, init=False)
    up: dict[Name, object] = attrs.field(factory=dict, init=False)  # a token for each time up
    _notes: frozenset[str] = attrs.field(default=frozenset(), init=False)
    _turn: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    def put(self, name: Name, definition: NetworkDefinition | None) -> None:
        """Store a definition, or forget the network."""
        if definition is None:
            self.up.pop(name, None)
            self.defined.pop(name, None)
            self._store.remove_network(name)
        else:
            self._store.write_network(definition)
            self.defined[name] = definition

    async def bring_up(self, names: Iterable[Name], report: Report, undo: AsyncExitStack) -> None:
        """Bring networks up and watch them; undone, those that were down are down again.

        Those that make the bridge of another one come before it.
        """
        for name in self._with_providers(names):
            fresh = name not in self.up
            if fresh:
                undo.push_async_callback(shielded, self.take_down, name, ignore)
            await self.ensure(name, report)
            if fresh:
                self._start_watch(name)
                await self._warn(name, report)

    def _with_providers(self, names: Iterable[Name]) -> list[Name]:
        providers = {
            item.plan.bridge: name for name, item in self.defined.items() if item.plan.makes_bridge
        }
        wanted = list[Name]()
        for name in names:
            plan = self.defined[name].plan
            if not plan.makes_bridge and plan.bridge in providers:
                wanted.append(providers[plan.bridge])
            wanted.append(name)
        return list(dict.fromkeys(wanted))

    def find_plugged(self, name: Name) -> set[Name]:
        """The network, and those that are plugged into the bridge that it makes."""
        plan = self.defined[name].plan
        others = {
            other
            for other, item in self.defined.items()
            if plan.makes_bridge and item.plan.bridge == plan.bridge
        }
        return {name, *others}

    async def _warn(self, name: Name, report: Report) -> None:
        """Say which firewall of others stops its guests, and what to do about it."""
        from qorch_net.firewalls import find_blockers  # noqa: PLC0415

        for blocker in await trio.to_thread.run_sync(find_blockers, [self.plan_of(name)]):
            cure = "; ".join(blocker.cures)
            report(Progress("network", name, message=f"{blocker}: let it through by: {cure}"))

    async def take_down(self, name: Name, report: Report) -> None:
        """Take a network down; its definition stays. Raises NetError."""
        await self._remove(name, report)
        self._emit("NETWORK_DOWN", name)

    async def remove(self, name: Name, report: Report) -> None:
        """Take a network down and forget it. Raises NetError."""
        await self.take_down(name, report)
        self.put(name, None)

    async def tidy(self, report: Report) -> None:
        """Remove built-in networks that nobody uses; the others forget who was removed."""
        for name, definition in list(self.defined.items()):
            if definition.builtin and not self._machines.users_of(name):
                await self.remove(name, report)
            elif name in self.up:
                try:
                    await self._ensure_again(name, report)
                except NetError as error:  # that of others
                    report(Progress("network", name, message=f"is broken: {error}"))

    async def repair_rules(self) -> None:
        """Compare the rules of all networks that are up with what they should be. Raises NetError.

        What is to be put back with the last network is remembered: a flush takes its notes away.
        """
        from qorch_net.network import apply_rules  # noqa: PLC0415

        async with self._turn:
            plans = [self.plan_of(name) for name in self.up]
            if not plans:
                self._notes = frozenset()
                return
            repair = await trio.to_thread.run_sync(
                functools.partial(apply_rules, self.state.owner, plans, notes=self._notes)
            )
            self._notes = repair.notes
        for name in self.up if repair.done else ():
            self._emit("NETWORK_REPAIRED", name, step=", ".join(repair.done))

    def find_stricken(self, changes: LinkChanges) -> set[Name]:
        """Find the networks that are up and whose interfaces these changes are about."""
        return {
            name for name in self.up if changes.is_about(*_find_interfaces(self.defined[name].plan))
        }

    async def repair_links(self, names: Iterable[Name], *, known: Collection[Name]) -> set[Name]:
        """Make networks be as they are defined; give those for which that failed.

        Of the `known` ones it has been told already that they are broken.
        """
        broken = set[Name]()
        for name in sorted(names):
            if name not in self.up:
                continue
            done: list[Progress] = []
            try:
                await self._ensure_again(name, done.append)
            except NetError as error:
                broken.add(name)
                if name not in known:
                    self._emit("NETWORK_BROKEN", name, error=error.message)
            else:
                if done:
                    self._emit("NETWORK_REPAIRED", name, step=", ".join(x.step for x in done))
        return broken

    def tell_broken(self, error: NetError) -> None:
        """Say that the rules could not be repaired."""
        for name in self.up:
            self._emit("NETWORK_BROKEN", name, error=error.message)

    def plan_of(self, name: Name) -> NetworkPlan:
        """What a network is planned as, with the machines on it. Raises NetError."""
        if name not in self.defined:  # an `up` that failed has taken it back
            raise NetError(f"network {name} was removed meanwhile", "run the same command again")
        return add_leases(self.defined[name].plan, self._machines.plans)

    def _start_watch(self, name: Name) -> None:
        if not self.defined[name].plan.mode.is_served:
            return  # it has no dnsmasq

        async def repair() -> None:
            try:
                await self._ensure_again(name, functools.partial(self._note_repair, name))
            except NetError as error:  # tried again after a while
                self._emit("NETWORK_BROKEN", name, error=error.message)

        self._tasks.send_nowait(functools.partial(self._watch, name, repair))

    def _note_repair(self, name: Name, progress: Progress) -> None:
        self._emit("NETWORK_REPAIRED", name, step=progress.step)

    def _emit(self, event: str, name: Name, **data: object) -> None:
        self._events.emit_nowait("", event, {"network": name, **data})

    async def ensure(self, name: Name, report: Report) -> None:
        """Bring a network up, or make it as it is defined now. Raises NetError."""
        async with self._turn:
            await self._ensure(name, report)

    async def _ensure_again(self, name: Name, report: Report) -> None:
        """Repair a network, unless it is taken down before it is its turn. Raises NetError."""
        async with self._turn:
            if name in self.up:
                await self._ensure(name, report)

    async def _ensure(self, name: Name, report: Report) -> None:
        from qorch_net.network import ensure_network  # noqa: PLC0415  pyroute2: 120 ms
        from qorch_net.tap import replug_taps  # noqa: PLC0415

        plan = self.plan_of(name)
        run_dir = self.state.run / "network"
        _make_directory(run_dir)
        tell = from_thread("network", name, report)
        machines = self._machines.plans.values()
        taps = [tap for machine in machines for tap in machine.taps if tap.bridge == plan.bridge]
        # A bridge may be new: made by others, or by a supervisor that was killed after that.
        steps = ["bridge"] if name not in self.up or not plan.makes_bridge else []

        def note(step: str) -> None:
            steps.append(step)
            tell(step)

        def ensure() -> None:
            ensure_network(plan, run_dir=run_dir, dnsmasq=self.dnsmasq, report=note)
            if taps and plan.bridge is not None and "bridge" in steps:
                replug_taps(taps, tell)

        await trio.to_thread.run_sync(ensure)
        self.up.setdefault(name, object())

    async def _remove(self, name: Name, report: Report) -> None:
        from qorch_net.network import remove_network  # noqa: PLC0415

        tell = from_thread("network", name, report)

        def remove() -> None:
            remove_network(
                name,
                owner=self.state.owner,
                run_dir=self.state.run / "network",
                report=tell,
            )

        async with self._turn:
            token = self.up.pop(name, None)
            try:
                await trio.to_thread.run_sync(remove)
            except BaseException:  # what is left of it is still up, and may be taken down again
                if token is not None:
                    self.up[name] = token
                raise

    async def adopt(self, report: Report) -> None:
        """After a start: complete what is half up, remove what no definition owns."""
        self.defined |= self._store.read_networks()
        await self._adopt(report)
        for name in self.up:
            self._start_watch(name)
        for name, definition in list(self.defined.items()):
            if definition.builtin and not self._machines.users_of(name):
                await self.remove(name, report)

    async def remove_leftovers(self) -> None:
        """Remove what exists of networks that are not defined. Raises NetError."""
        from qorch_net.network import remove_orphans  # noqa: PLC0415

        run_dir = self.state.run / "network"

        def tidy() -> None:
            run_dir.mkdir(parents=True, exist_ok=True)
            remove_orphans(self.state.owner, keep=set(self.defined), run_dir=run_dir)
            self._store.remove_remains()

        async with self._turn:
            await trio.to_thread.run_sync(tidy)

    async def _adopt(self, report: Report) -> None:
        run_dir = self.state.run / "network"
        if not self.defined and not run_dir.is_dir():
            return
        from qorch_net.network import remove_orphans  # noqa: PLC0415
        from qorch_net.probe import find_owned  # noqa: PLC0415

        def tidy() -> Collection[str]:
            run_dir.mkdir(parents=True, exist_ok=True)
            remove_orphans(self.state.owner, keep=set(self.defined), run_dir=run_dir)
            owned = find_owned(self.state.owner)
            labels = {link.mark.label for link in owned.links if link.mark}
            return owned.networks | self._find_used(labels)

        present = await trio.to_thread.run_sync(tidy)
        for name in self.defined:
            if name in present:
                try:
                    await self.ensure(name, report)
                except NetError as error:  # its watchers try again
                    self.up.setdefault(name, object())
                    report(Progress("network", name, message=f"is broken: {error}"))
                    self._emit("NETWORK_BROKEN", name, error=error.message)

    def _find_used(self, labels: Collection[str]) -> set[str]:
        """The networks of these taps: of one that makes no bridge there is nothing else to see."""
        nics = [nic for plan in self._machines.plans.values() for nic in plan.nics]
        return {str(nic.network) for nic in nics if nic.tap and nic.tap.label in labels}

    async def _watch(self, name: Name, repair: Callable[[], Awaitable[None]]) -> None:
        """Wait for the end of a network's dnsmasq; have it started again while it is wanted."""
        from qorch_net.dnsmasq import find_dnsmasq  # noqa: PLC0415

        token = self.up.get(name)
        while token is not None and self.up.get(name) is token:
            try:
                pids = await trio.to_thread.run_sync(find_dnsmasq, self.state.owner)
                if name in pids:
                    await _wait_pid(pids[name])
            except OSError as error:  # no more files may be open
                self._emit("NETWORK_BROKEN", name, error=NetError.from_os_error(error).message)
            await trio.sleep(_RESTART_DELAY)
            if self.up.get(name) is token:
                await repair()


def _find_interfaces(plan: NetworkPlan) -> tuple[set[str], set[str]]:
    """A network's own interfaces, and those of others that it needs."""
    bridge = {plan.bridge} if plan.makes_bridge else set()
    own = (bridge | {plan.subinterface}) - {None}
    theirs = {plan.uplink, plan.bridge} - {None, *own}
    return {str(name) for name in own}, {str(name) for name in theirs}


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NetError.from_os_error(error) from error


async def _wait_pid(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
