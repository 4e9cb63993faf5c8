"""Look at the host: its network, and what on it is ours."""

from __future__ import annotations

import attrs

from qorch_net.forwarding import find_forwarding
from qorch_net.host import HostNetwork, Link
from qorch_net.netlink.links import Links, open_links
from qorch_net.netlink.nft import Ours, find_ruleset
from qorch_net.process import Process, find_processes


@attrs.frozen(kw_only=True)
class Owned:
    """What carries an owner's mark in this network namespace, and its processes everywhere."""

    bridges: tuple[Link, ...]
    taps: tuple[Link, ...]
    table: bool
    ruled: frozenset[str]
    processes: tuple[Process, ...]

    @property
    def networks(self) -> frozenset[str]:
        """The networks of which anything exists."""
        marks = [*(link.mark for link in self.bridges), *(p.mark for p in self.processes)]
        return self.ruled | {mark.network for mark in marks if mark and mark.network}


def find_host() -> HostNetwork:
    """Look at the network namespace of the calling thread."""
    with open_links() as links:
        return look(links, links.find_links())


def look(links: Links, found: tuple[Link, ...]) -> HostNetwork:
    """Look with an open socket, at whatever interfaces were found."""
    return HostNetwork(
        links=found,
        addresses=links.find_addresses(),
        routes=links.find_routes(),
        forwarding=find_forwarding(),
    )


def find_owned(owner: str) -> Owned:
    """Everything that carries this owner's mark, read from the kernel."""
    with open_links() as links:
        ours = [x for x in links.find_links() if x.mark and x.mark.owner == owner]
    rules = find_ruleset(owner).ours
    networks = rules.table.networks if rules.table else frozenset()
    return Owned(
        bridges=tuple(link for link in ours if link.kind == "bridge"),
        taps=tuple(link for link in ours if link.kind == "tun"),
        table=rules != Ours(),
        ruled=networks | {guard.network for guard in rules.guards},
        processes=find_processes(owner),
    )
