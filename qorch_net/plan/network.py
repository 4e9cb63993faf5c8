"""One network, down to every name and address."""

from __future__ import annotations

import enum
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import attrs

from qorch_net.errors import NetError
from qorch_net.plan.dhcp import Dhcp6Range, DhcpOption, DhcpRange, Lease, PortForward
from qorch_net.plan.names import (
    IpAddress,
    Mark,
    check_domain,
    check_host_name,
    check_interface_name,
    check_mac,
    check_mtu,
    check_owner,
    check_vlan,
    check_vlans,
    make_subinterface_name,
)
from qorch_net.plan.tap import Guard, MacvtapMode


class Mode(enum.Enum):
    """How a network reaches the world."""

    NAT = "nat"
    ROUTE = "route"
    ISOLATED = "isolated"
    BRIDGE = "bridge"
    VLAN = "vlan"
    MACVTAP = "macvtap"
    TAP = "tap"

    @property
    def is_served(self) -> bool:
        """Whether the host has an address in it, and gives its guests addresses and names."""
        return self in {Mode.NAT, Mode.ROUTE, Mode.ISOLATED}


@attrs.frozen(kw_only=True)
class NetworkPlan:
    """One network.

    A served one (nat, route, isolated) has a bridge of ours with the `gateway` address in it, its
    prefix being that of the subnet; `gateway6` alike. `dhcp` and `dhcp6` None mean DNS only, `ra`
    that guests make themselves IPv6 addresses. `dns` are the servers to ask, by default the host's.
    `reach` names the bridges of other networks that its guests may open connections to.
    `isolated_guests` and `antispoof` are what taps have that say nothing else.

    `bridge` mode: taps are plugged into a bridge that is there already, or, with `uplink`, into one
    made around it. `vlan`: the bridge is made around the sub-interface `vlan` of the uplink.
    `macvtap` and `tap` networks have no bridge.

    On a VLAN-aware bridge (`vlan_filtering`) the uplink carries the VLANs of `trunk`, by default
    all. In `bridge` mode `vlan` is the access VLAN of taps that ask for none.

    `mac` is the bridge's, unless it is around an uplink, whose MAC it takes then. `mtu` None leaves
    it to the kernel. `forward_delay` is in 1/100 s. `leases` and `guards` belong to the machines.
    """

    name: str = attrs.field(validator=check_host_name)
    owner: str = attrs.field(validator=check_owner)
    mode: Mode = Mode.NAT
    bridge: str | None = attrs.field(default=None, validator=check_interface_name)
    mac: str = attrs.field(validator=check_mac)
    uplink: str | None = attrs.field(default=None, validator=check_interface_name)
    vlan: int | None = attrs.field(default=None, validator=check_vlan)
    vlan_filtering: bool = False
    trunk: tuple[int, ...] = attrs.field(default=(), validator=check_vlans)
    stp: bool = False
    forward_delay: int = 0
    macvtap: MacvtapMode = MacvtapMode.BRIDGE
    mtu: int | None = attrs.field(default=None, validator=check_mtu)
    gateway: IPv4Interface | None = None
    gateway6: IPv6Interface | None = None
    dhcp: DhcpRange | None = None
    dhcp6: Dhcp6Range | None = None
    ra: bool = False
    domain: str = attrs.field(validator=check_domain)
    dns: tuple[IpAddress, ...] = ()
    dhcp_options: tuple[DhcpOption, ...] = ()
    forwards: tuple[PortForward, ...] = ()
    isolated_guests: bool = False
    antispoof: bool = False
    reach: tuple[str, ...] = ()
    leases: tuple[Lease, ...] = ()
    guards: tuple[Guard, ...] = ()

    @property
    def mark(self) -> Mark:
        """What the bridge, the sub-interface and dnsmasq carry."""
        return Mark(self.owner, f"network/{self.name}")

    @property
    def subnet(self) -> IPv4Network | None:
        """The gateway's network."""
        return self.gateway.network if self.gateway else None

    @property
    def subnet6(self) -> IPv6Network | None:
        """The IPv6 gateway's network."""
        return self.gateway6.network if self.gateway6 else None

    @property
    def subinterface(self) -> str | None:
        """The uplink's sub-interface for the VLAN, where there is one."""
        if self.uplink is None or self.vlan is None or self.mode is Mode.BRIDGE:
            return None
        return make_subinterface_name(self.owner, self.uplink, self.vlan)

    @property
    def makes_bridge(self) -> bool:
        """Whether the bridge is ours: nothing is changed about one that is not."""
        return self.bridge is not None and (self.mode is not Mode.BRIDGE or self.uplink is not None)

    @property
    def enslaved(self) -> str | None:
        """The uplink that becomes a port of our bridge, with all that the host has on it."""
        return self.uplink if self.mode is Mode.BRIDGE else None

    def __attrs_post_init__(self) -> None:
        _check_mode(self)
        if self.gateway:
            _check_subnet(self.gateway)
        if self.dhcp:
            self._check_range(self.dhcp)
        if self.gateway6 and self.gateway6.network.prefixlen > 126:
            raise NetError(f"the subnet {self.subnet6} has no room for a machine", "/64 is usual")
        if self.dhcp6:
            self._check_range6(self.dhcp6)
        if not 0 <= self.forward_delay <= 3000 or (self.stp and 0 < self.forward_delay < 200):
            raise NetError(
                f"a forward delay of {self.forward_delay / 100:g} s is not possible",
                "with STP the kernel takes 2 s to 30 s",
            )
        self._check_leases()

    def find_targets(self, forward: PortForward) -> tuple[IpAddress, ...]:
        """Find the addresses that a forwarded port leads to; none if no lease has its name.

        One of each family, where the host's address says nothing else.
        """
        if forward.ip is not None:
            return (forward.ip,)
        leases = [lease for lease in self.leases if lease.name == forward.name]
        found = [ip for lease in leases for ip in (lease.ip, lease.ip6) if ip is not None]
        version = forward.address.version if forward.address else None
        return tuple(ip for ip in found if version in {None, ip.version})

    def _check_range(self, dhcp: DhcpRange) -> None:
        if self.gateway is None:
            raise NetError("DHCP needs a gateway address", "give the network a subnet")
        subnet = self.gateway.network
        first, last = subnet.network_address + 1, subnet.broadcast_address - 1
        if dhcp.start < first or dhcp.end > last:
            raise NetError(
                f"the DHCP range {dhcp} is not inside the subnet {subnet}",
                f"take addresses from {first} to {last}",
            )
        if self.gateway.ip in dhcp:
            raise NetError(
                f"the DHCP range {dhcp} contains the gateway {self.gateway.ip}",
                "start the range behind the gateway",
            )

    def _check_range6(self, dhcp6: Dhcp6Range) -> None:
        if self.gateway6 is None:
            raise NetError("DHCPv6 needs a gateway address", "give the network an IPv6 subnet")
        subnet = self.gateway6.network
        if dhcp6.start not in subnet or dhcp6.end not in subnet or self.gateway6.ip in dhcp6:
            raise NetError(
                f"the DHCP range {dhcp6} is not inside the subnet {subnet} without its gateway",
                f"the gateway is {self.gateway6.ip}",
            )

    def _check_leases(self) -> None:
        seen: dict[str, Lease] = {}
        for lease in self.leases:
            self._check_lease(lease)
            for key in (lease.mac, lease.ip, lease.ip6, lease.name.lower()):
                if key is None:
                    continue
                if other := seen.get(str(key)):
                    raise NetError(f"{lease.name} and {other.name} both want {key}")
                seen[str(key)] = lease

    def _check_lease(self, lease: Lease) -> None:
        gateways = (self.gateway, self.gateway6)
        for ip, gateway in zip((lease.ip, lease.ip6), gateways, strict=True):
            if ip is None:
                continue
            if gateway is None:
                raise NetError(f"{ip} of {lease.name} is in no subnet of network {self.name}")
            subnet = gateway.network
            ends = {subnet.network_address, subnet.broadcast_address, gateway.ip}
            if ip not in subnet or ip in ends:
                raise NetError(
                    f"{ip} of {lease.name} is no address for a machine in {subnet}",
                    f"the gateway is {gateway.ip}",
                )


def _check_mode(plan: NetworkPlan) -> None:
    """What a mode needs, and what makes no sense in it."""
    name, mode = plan.name, plan.mode
    word = mode.value
    without_bridge = mode in {Mode.MACVTAP, Mode.TAP}
    if (plan.bridge is None) != without_bridge:
        raise NetError(f"{word} network {name} {'has no' if without_bridge else 'needs a'} bridge")
    if mode in {Mode.VLAN, Mode.MACVTAP} and plan.uplink is None:
        raise NetError(f"{word} network {name} needs an uplink", "such as eth0")
    if (mode.is_served or mode is Mode.TAP) and plan.uplink is not None:
        raise NetError(f"{word} network {name} has no uplink", "the modes bridge and vlan have")
    if mode is Mode.VLAN and plan.vlan is None:
        raise NetError(f"vlan network {name} needs the number of its VLAN", "from 1 to 4094")
    if mode.is_served and plan.gateway is None and plan.gateway6 is None:
        raise NetError(f"{word} network {name} needs a gateway address", "give it a subnet")
    served = (plan.gateway, plan.gateway6, plan.dhcp, plan.dhcp6)
    if not mode.is_served and (any(served) or plan.ra or plan.forwards):
        raise NetError(
            f"the host has no part in {word} network {name}: no address, DHCP or forwarded port",
            "the modes nat, route and isolated have",
        )
    if plan.forwards and mode is not Mode.NAT:
        raise NetError(f"{word} network {name} forwards no ports", "mode nat does")
    if plan.vlan_filtering and not plan.makes_bridge and mode is not Mode.BRIDGE:
        raise NetError(f"{word} network {name} has no bridge that could know VLANs")


def _check_subnet(gateway: IPv4Interface) -> None:
    subnet = gateway.network
    if subnet.prefixlen > 30:
        raise NetError(
            f"the subnet {subnet} has no room for a machine",
            "the prefix can be /30 at most; /24 is usual",
        )
    if gateway.ip in {subnet.network_address, subnet.broadcast_address}:
        raise NetError(
            f"{gateway.ip} cannot be the gateway of {subnet}",
            f"take an address inside, such as {subnet.network_address + 1}",
        )
