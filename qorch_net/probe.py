"""Look at the host: its network, and what on it is ours."""

from __future__ import annotations

import attrs

from qorch_net.forwarding import find_forwarding
from qorch_net.host import HostNetwork, Link
from qorch_net.managers import find_managers, find_wireless
from qorch_net.netlink.links import Links, open_links
from qorch_net.netlink.nft import Ours, find_ruleset
from qorch_net.process import Process, find_processes


@attrs.frozen(kw_only=True)
class Owned:
    """What carries an owner's mark in this network namespace, and its processes everywhere."""

    links: tuple[Link, ...]
    table: bool
    ruled: frozenset[str]
    processes: tuple[Process, ...]

    def find_links(self, kind: str) -> tuple[Link, ...]:
        """Find the interfaces of a kind."""
        return tuple(link for link in self.links if link.kind == kind)

    @property
    def bridges(self) -> tuple[Link, ...]:
        """The bridges of networks."""
        return self.find_links("bridge")

    @property
    def subinterfaces(self) -> tuple[Link, ...]:
        """The sub-interfaces of uplinks, one for each VLAN."""
        return self.find_links("vlan")

    @property
    def taps(self) -> tuple[Link, ...]:
        """The taps of machines, which end with whoever holds them."""
        return self.find_links("tun")

    @property
    def lasting(self) -> tuple[Link, ...]:
        """What belongs to taps and does not end by itself: macvtaps, and ifbs for rate limits."""
        return (*self.find_links("macvtap"), *self.find_links("ifb"))

    @property
    def networks(self) -> frozenset[str]:
        """The networks of which anything exists."""
        marks = [*(link.mark for link in self.links), *(p.mark for p in self.processes)]
        return self.ruled | {mark.network for mark in marks if mark and mark.network}


def find_host() -> HostNetwork:
    """Look at the network namespace of the calling thread."""
    with open_links() as links:
        return look(links, links.find_links())


def look(links: Links, found: tuple[Link, ...]) -> HostNetwork:
    """Look with an open socket, at whatever interfaces were found."""
    wireless = find_wireless()
    return HostNetwork(
        links=tuple(attrs.evolve(x, wireless=True) if x.name in wireless else x for x in found),
        addresses=links.find_addresses(),
        routes=links.find_routes(),
        forwarding=find_forwarding(),
        managers=find_managers(found),
    )


def find_owned(owner: str) -> Owned:
    """Everything that carries this owner's mark, read from the kernel."""
    with open_links() as links:
        ours = tuple(x for x in links.find_links() if x.mark and x.mark.owner == owner)
    rules = find_ruleset(owner).ours
    networks = rules.table.networks if rules.table else frozenset()
    return Owned(
        links=ours,
        table=rules != Ours(),
        ruled=networks | {guard.network for guard in rules.guards},
        processes=find_processes(owner),
    )
