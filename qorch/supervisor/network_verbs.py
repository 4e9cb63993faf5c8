"""The verbs about networks and addresses."""

from __future__ import annotations

import functools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import attrs
import trio

from qorch.errors import MachineError, NotFoundError
from qorch.plan import MachinePlan
from qorch.progress import Report, ignore
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.machines import Machines
from qorch.supervisor.network_views import (
    make_addresses,
    make_blocker,
    make_lease_rows,
    make_network_details,
    make_network_row,
    make_ports,
)
from qorch.supervisor.networks import Networks
from qorch.units import Name
from qorch_net.plan import NetworkPlan

if TYPE_CHECKING:
    from qorch_net.dnsmasq import ActiveLease


@attrs.define(eq=False)
class NetworkVerbs:
    """Networks by name. All raise NotFoundError if there is no such thing, and NetError."""

    _networks: Networks
    _definitions: Definitions
    _machines: Machines
    _changing: trio.Lock

    def find_networks(self) -> list[dict[str, object]]:
        """The rows of `qorch network ls`, by name."""
        return [self._make_row(name) for name in sorted(self._networks.defined)]

    async def show_network(self, name: str) -> dict[str, object]:
        """The details of one network: itself, its ports and who stops it."""
        known = self._find(name)
        plan = self._networks.plan_of(known)
        look = functools.partial(self._look, known, plan)
        return {**self._make_row(known), **await trio.to_thread.run_sync(look)}

    async def find_leases(self, name: str) -> list[dict[str, object]]:
        """The addresses that are kept and held on one network."""
        known = self._find(name)
        plan = self._networks.plan_of(known)
        return make_lease_rows(plan, await trio.to_thread.run_sync(self._find_active, known))

    async def find_addresses(self, machine: str) -> list[dict[str, object]]:
        """The cards of a machine with their addresses: planned, leased, seen."""
        from qorch_net.netlink.traffic import find_traffic  # noqa: PLC0415

        plan = self._machines.plan_of(self._definitions.find(machine))

        def look() -> list[dict[str, object]]:
            traffic = find_traffic()
            names = {nic.network for nic in plan.nics if nic.network}
            leases = {name: self._find_active(name) for name in names}
            return [make_addresses(nic, leases, traffic) for nic in plan.nics]

        return await trio.to_thread.run_sync(look)

    async def up(self, name: str, *, report: Report = ignore) -> None:
        """Bring a network up, or correct it."""
        self._find(name)
        async with self._changing, AsyncExitStack() as undo:
            await self._networks.bring_up([self._find(name)], report, undo)  # it may be gone
            undo.pop_all()

    async def down(self, name: str, *, report: Report = ignore) -> None:
        """Take a network down; it stays defined. Raises MachineError while machines run on it."""
        self._find(name)
        async with self._changing:
            known = self._find(name)  # it may be gone
            plugged = self._networks.find_plugged(known)
            users = [
                machine
                for machine, plan in self._machines.plans.items()
                if any(nic.network in plugged for nic in plan.nics)
            ]
            if users:
                raise MachineError(
                    f"network {name} is in use by {', '.join(users)}",
                    f"qorch stop {' '.join(users)}",
                )
            if known in self._networks.up:
                await self._networks.take_down(known, report)

    def _find(self, name: str) -> Name:
        if name not in self._networks.defined:
            known = ", ".join(sorted(self._networks.defined)) or "none"
            raise NotFoundError(f"there is no network {name!r}", f"networks: {known}")
        return Name(name)

    def _make_row(self, name: Name) -> dict[str, object]:
        definition = self._networks.defined[name]
        return make_network_row(
            definition.plan,
            self._definitions.users_of(name),
            up=name in self._networks.up,
            builtin=definition.builtin,
        )

    def _look(self, name: Name, plan: NetworkPlan) -> dict[str, object]:
        from qorch_net.dnsmasq import find_dnsmasq  # noqa: PLC0415  pyroute2: 120 ms
        from qorch_net.firewalls import find_blockers  # noqa: PLC0415
        from qorch_net.netlink.traffic import find_traffic  # noqa: PLC0415

        pids = find_dnsmasq(plan.owner) if plan.mode.is_served else {}
        leases = {name: self._find_active(name)}
        return {
            **make_network_details(plan, pids.get(name)),
            "ports": make_ports(plan, self._plans(), leases, find_traffic()),
            "blockers": [make_blocker(blocker) for blocker in find_blockers([plan])],
        }

    def _plans(self) -> dict[Name, MachinePlan]:
        return {name: self._machines.plan_of(name) for name in self._definitions}

    def _find_active(self, network: Name) -> tuple[ActiveLease, ...]:
        from qorch_net.dnsmasq import find_leases  # noqa: PLC0415

        return find_leases(self._networks.state.run / "network", network)
