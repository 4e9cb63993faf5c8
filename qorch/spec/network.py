"""What a vm.toml says about networks."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import attrs

from qorch.units import Duration, Name
from qorch_net.plan import MacvtapMode, Mode, Transport

DEFAULT_NETWORK = Name("default")


@attrs.frozen(kw_only=True)
class DhcpSpec:
    """`[network.NAME.dhcp]`: the addresses that DHCP gives out, both ends included, and options.

    `dhcp = false` for a network without.
    """

    enabled: bool = True
    start: IPv4Address | None = None
    end: IPv4Address | None = None
    options: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Dhcp6Spec:
    """`[network.NAME.dhcp6]`: the same for IPv6."""

    start: IPv6Address
    end: IPv6Address
    options: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ForwardSpec:
    """`[[network.NAME.forward]]`: ports of the host that lead to a machine, or an address."""

    proto: Transport = Transport.TCP
    host: IPv4Address | None = None
    host_port: int
    vm: Name | None = None
    ip: IPv4Address | None = None
    port: int | None = None
    count: int = 1


@attrs.frozen(kw_only=True)
class NetworkSpec:
    """`[network.NAME]`: what is on the host for it, and what serves it.

    `nat`, `route` and `isolated` networks have a bridge of their own with the host in it; `bridge`
    is a bridge that is there, or one around `uplink`; `vlan` one around the uplink's `vlan`;
    `macvtap` networks have none, and on `tap` networks somebody else plugs the taps in.
    """

    mode: Mode = Mode.NAT
    bridge: str | None = None
    uplink: str | None = None
    vlan: int | None = None
    vlan_filtering: bool = False
    trunk: tuple[int, ...] = ()
    macvtap: MacvtapMode = MacvtapMode.BRIDGE
    mtu: int | None = None
    stp: bool = False
    forward_delay: Duration | None = None
    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    dhcp: DhcpSpec | None = None
    dhcp6: Dhcp6Spec | None = None
    ra: bool | None = None
    domain: Name | None = None
    dns: tuple[IPv4Address | IPv6Address, ...] = ()
    forwards: tuple[ForwardSpec, ...] = attrs.field(default=(), metadata={"toml": "forward"})
    isolated_guests: bool = False
    reach: tuple[Name, ...] = ()
    antispoof: bool = False
