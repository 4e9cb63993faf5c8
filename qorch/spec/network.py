"""What a vm.toml says about networks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import attrs

from qorch.units import Name
from qorch_net.plan import Mode

DEFAULT_NETWORK = Name("default")


@attrs.frozen(kw_only=True)
class DhcpSpec:
    """The addresses that DHCP gives out, both ends included."""

    start: IPv4Address
    end: IPv4Address


@attrs.frozen(kw_only=True)
class NetworkSpec:
    """`[network.NAME]`: a bridge on this host and what serves it."""

    mode: Mode = Mode.NAT
    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    dhcp: DhcpSpec | None = None
    domain: Name | None = None
    bridge: str | None = None
