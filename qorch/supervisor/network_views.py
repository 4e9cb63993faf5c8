"""How networks and addresses are shown. Keys are a contract."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from qorch.plan import MachinePlan
from qorch.units import Name
from qorch_net.plan import IpAddress, NetworkPlan

if TYPE_CHECKING:
    from qorch.plan import NicPlan
    from qorch_net.dnsmasq import ActiveLease
    from qorch_net.foreign import Blocker
    from qorch_net.netlink.traffic import Traffic

Leases = Mapping[Name, Collection["ActiveLease"]]
"""The active leases of each network."""


def make_network_row(
    plan: NetworkPlan, machines: Iterable[str], *, up: bool, builtin: bool
) -> dict[str, object]:
    """One row of `qorch network ls --json`."""
    return {
        "name": plan.name,
        "mode": plan.mode.value,
        "state": "up" if up else "down",
        "bridge": plan.bridge,
        "subnet": _text(plan.subnet),
        "subnet6": _text(plan.subnet6),
        "machines": list(machines),
        "builtin": builtin,
    }


def make_network_details(plan: NetworkPlan, dnsmasq: int | None) -> dict[str, object]:
    """What `qorch network show --json` adds of the network itself."""
    return {
        "uplink": plan.uplink,
        "subinterface": plan.subinterface,
        "vlan": plan.vlan,
        "vlan_filtering": plan.vlan_filtering,
        "mtu": plan.mtu,
        "gateway": _text(plan.gateway and plan.gateway.ip),
        "gateway6": _text(plan.gateway6 and plan.gateway6.ip),
        "dhcp": _text(plan.dhcp),
        "dhcp6": _text(plan.dhcp6),
        "ra": plan.ra,
        "domain": plan.domain,
        "dns": [str(server) for server in plan.dns],
        "reach": list(plan.reach),
        "isolated_guests": plan.isolated_guests,
        "forwards": [
            {
                "proto": forward.proto.value,
                "host": _text(forward.address),
                "host_port": forward.host_port,
                "vm": forward.name,
                "ip": _text(next(iter(plan.find_targets(forward)), None)),
                "port": forward.port,
                "count": forward.count,
            }
            for forward in plan.forwards
        ],
        "dnsmasq": dnsmasq,
    }


def make_ports(
    plan: NetworkPlan, machines: Mapping[Name, MachinePlan], leases: Leases, traffic: Traffic
) -> list[dict[str, object]]:
    """The cards on a network, with what their taps have carried, and other ports of its bridge."""
    ports = [
        {
            "machine": machine.name,
            "tap": nic.tap.name,
            **make_addresses(nic, leases, traffic),
            "counters": _count(nic.tap.name, traffic),
        }
        for machine in machines.values()
        for nic in machine.nics
        if nic.network == plan.name and nic.tap is not None
    ]
    known = {port["tap"] for port in ports} | {plan.uplink, plan.subinterface}
    others = [name for name in traffic.ports.get(plan.bridge or "", ()) if name not in known]
    return ports + [
        {"machine": None, "tap": name, "counters": _count(name, traffic)} for name in others
    ]


def make_addresses(nic: NicPlan, leases: Leases, traffic: Traffic) -> dict[str, object]:
    """A card with its addresses: planned, leased by DHCP, seen to answer."""
    mac = str(nic.mac)
    ips = [nic.ip] if nic.ip is not None else []
    planned = [*ips, *([nic.spec.ip6] if nic.spec.ip6 is not None else [])]
    seen = traffic.find_seen(mac, nic.tap.bridge) if nic.tap is not None else ()
    leased = [
        lease.ip
        for lease in (leases.get(nic.network, ()) if nic.network else ())
        if lease.mac == mac
    ]
    return {
        "id": nic.id,
        "network": nic.network,
        "mac": mac,
        "ips": [str(ip) for ip in ips],
        "planned": [str(ip) for ip in planned],
        "leased": [str(ip) for ip in leased],
        "seen": [str(ip) for ip in seen],
    }


def make_lease_rows(plan: NetworkPlan, leases: Collection[ActiveLease]) -> list[dict[str, object]]:
    """Rows of `qorch network leases --json`: what is kept for whom, and who holds what."""
    rows: dict[IpAddress, dict[str, object]] = {}
    for planned in plan.leases:
        for ip in (planned.ip, planned.ip6):
            if ip is not None:
                rows[ip] = _make_lease(ip, planned.mac, planned.name, planned=True)
    for lease in leases:
        row = rows.setdefault(lease.ip, _make_lease(lease.ip, lease.mac, lease.name, planned=False))
        row |= {"leased": True, "expires": lease.expires and lease.expires.isoformat()}
    return [rows[ip] for ip in sorted(rows, key=lambda ip: (ip.version, int(ip)))]


def make_blocker(blocker: Blocker) -> dict[str, object]:
    """A chain of somebody else's that stops a network."""
    return {"message": str(blocker), "cures": list(blocker.cures)}


def _make_lease(
    ip: IpAddress, mac: str | None, name: str | None, *, planned: bool
) -> dict[str, object]:
    return {
        "ip": str(ip),
        "mac": mac,
        "name": name,
        "planned": planned,
        "leased": False,
        "expires": None,
    }


def _count(interface: str, traffic: Traffic) -> dict[str, int] | None:
    counters = traffic.counters.get(interface)
    return attrs.asdict(counters) if counters else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
