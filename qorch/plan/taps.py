"""What is behind a network card on this host: a tap in its network's bridge, or a macvtap."""

from __future__ import annotations

from ipaddress import IPv4Address

from qorch.errors import Problem
from qorch.spec import LinkState, NicSpec, RateSpec
from qorch_net.errors import NetError
from qorch_net.plan import Mode, NetworkPlan, Rate, TapPlan


def plan_tap(
    path: str,
    nic: NicSpec,
    network: NetworkPlan,
    *,
    name: str,
    label: str,
    mac: str,
    ip: IPv4Address | None,
    vhost: bool = False,
    problems: list[Problem],
) -> TapPlan | None:
    """The tap of a card on a network; None after a problem.

    What the card leaves open is as its network says.
    """
    macvtap = network.mode is Mode.MACVTAP
    trunk = bool(nic.trunk)
    access = network.vlan if network.mode is Mode.BRIDGE and not trunk else None
    antispoof = network.antispoof if nic.antispoof is None else nic.antispoof
    isolated = network.isolated_guests if nic.isolated is None else nic.isolated
    problems += _find_vlan_problems(path, nic, network)
    try:
        return TapPlan(
            name=name,
            owner=network.owner,
            label=label,
            bridge=network.bridge,
            uplink=(network.subinterface or network.uplink) if macvtap else None,
            macvtap=network.macvtap if macvtap else None,
            mac=mac,
            ips=tuple(address for address in (ip, nic.ip6) if address is not None),
            antispoof=antispoof,
            mtu=nic.mtu or network.mtu,
            queues=nic.queues or 1,
            vhost=vhost,
            vlan=access if nic.vlan is None else nic.vlan,
            trunk=nic.trunk,
            native=nic.native_vlan,
            rate_in=_plan_rate(nic.rate_in),
            rate_out=_plan_rate(nic.rate_out),
            isolated=isolated and not macvtap,
            up=nic.link is LinkState.UP,
        )
    except NetError as error:
        problems.append(Problem(path, error.message, error.hint))
        return None


def _find_vlan_problems(path: str, nic: NicSpec, network: NetworkPlan) -> list[Problem]:
    """VLANs of a card, where its network's bridge has none."""
    if network.mode is Mode.BRIDGE and not network.makes_bridge:
        return []  # whether a bridge of others knows VLANs is seen when the tap is plugged in
    if network.vlan_filtering:
        return []
    keys = {"vlan": nic.vlan is not None, "trunk": bool(nic.trunk)}
    return [
        Problem(
            f"{path}.{key}",
            f"the network {network.name} has no VLANs that a card could choose from",
            "give the network vlan_filtering = true, or mode vlan",
        )
        for key, given in keys.items()
        if given
    ]


def _plan_rate(spec: RateSpec | None) -> Rate | None:
    """Bits a second in the file, bytes in the kernel. Raises NetError."""
    if spec is None:
        return None
    return Rate(
        rate=spec.rate // 8,
        burst=None if spec.burst is None else int(spec.burst),
        peak=None if spec.peak is None else spec.peak // 8,
    )
