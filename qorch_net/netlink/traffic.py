"""What has been seen on the host's bridges: neighbours, and what interfaces have carried."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.iproute import IPRoute
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_GETNEIGH
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from qorch_net.errors import NetError

if TYPE_CHECKING:
    from qorch_net.plan import IpAddress

# NUD_REACHABLE, STALE, DELAY, PROBE: an answer came once, and no sign since that it is wrong
_SEEN: Final = 0x02 | 0x04 | 0x08 | 0x10
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


@attrs.frozen(kw_only=True)
class Neighbour:
    """An address that answered with this MAC on an interface."""

    interface: str
    mac: str
    ip: IpAddress


@attrs.frozen(kw_only=True)
class Counters:
    """What an interface has received and sent since it was made, as the host sees it."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int


@attrs.frozen(kw_only=True)
class Traffic:
    """All that has been seen. `ports` are the interfaces of each bridge."""

    neighbours: tuple[Neighbour, ...]
    counters: dict[str, Counters]
    ports: dict[str, tuple[str, ...]]

    def find_seen(self, mac: str, bridge: str | None) -> tuple[IpAddress, ...]:
        """Find the addresses that a guest's card has answered for."""
        found = {x.ip for x in self.neighbours if x.mac == mac and x.interface == bridge}
        return tuple(sorted(found, key=lambda ip: (ip.version, int(ip))))


def find_traffic() -> Traffic:
    """Look at the network namespace of the calling thread."""
    try:
        with IPRoute() as route:
            links = _dump(route, ifinfmsg(), RTM_GETLINK)
            neighbours = _dump(route, ndmsg(), RTM_GETNEIGH)
    except NetlinkError as error:
        raise NetError(f"cannot read the host's neighbours: {error.args[1]}") from error
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    ports: dict[str, list[str]] = {}
    for link in links:
        if bridge := names.get(link.get_attr("IFLA_MASTER")):
            ports.setdefault(bridge, []).append(names[link["index"]])
    return Traffic(
        neighbours=tuple(
            Neighbour(
                interface=names.get(x["ifindex"], "?"),
                mac=x.get_attr("NDA_LLADDR"),
                ip=ip_address(x.get_attr("NDA_DST")),
            )
            for x in neighbours
            if x["family"] in _FAMILIES and x["state"] & _SEEN and x.get_attr("NDA_LLADDR")
        ),
        counters={link.get_attr("IFLA_IFNAME"): _make_counters(link) for link in links},
        ports={bridge: tuple(sorted(names)) for bridge, names in ports.items()},
    )


def _make_counters(link: Any) -> Counters:
    stats = link.get_attr("IFLA_STATS64") or {}
    return Counters(**{field.name: stats.get(field.name, 0) for field in attrs.fields(Counters)})


def _dump(route: Any, request: Any, kind: int) -> list[Any]:
    request["header"].update(type=kind, flags=NLM_F_REQUEST | NLM_F_DUMP)
    return list(route.nlm_request_batch([request]))
