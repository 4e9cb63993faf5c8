"""What a network gives its guests: addresses, names, options and ports of the host."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import attrs

from qorch_net.errors import NetError
from qorch_net.plan.names import check_host_name, check_mac, check_port, make_digest

if TYPE_CHECKING:
    from collections.abc import Collection


@attrs.frozen(kw_only=True)
class Lease:
    """Addresses kept for one MAC, and the DNS name that points to them."""

    mac: str = attrs.field(validator=check_mac)
    ip: IPv4Address | None = None
    ip6: IPv6Address | None = None
    name: str = attrs.field(validator=check_host_name)


@attrs.frozen(kw_only=True)
class DhcpRange:
    """The addresses that DHCP gives away, both ends included."""

    start: IPv4Address
    end: IPv4Address

    def __attrs_post_init__(self) -> None:
        _check_order(self)

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    def __contains__(self, address: IPv4Address) -> bool:
        return self.start <= address <= self.end

    def __len__(self) -> int:
        return int(self.end) - int(self.start) + 1


@attrs.frozen(kw_only=True)
class Dhcp6Range:
    """The addresses that DHCPv6 gives away, both ends included."""

    start: IPv6Address
    end: IPv6Address

    def __attrs_post_init__(self) -> None:
        _check_order(self)

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    def __contains__(self, address: IPv6Address) -> bool:
        return self.start <= address <= self.end


def _check_order(dhcp: DhcpRange | Dhcp6Range) -> None:
    if int(dhcp.start) > int(dhcp.end):
        raise NetError(f"the DHCP range {dhcp} is empty", "its start must not lie behind its end")


@attrs.frozen(kw_only=True)
class DhcpOption:
    """A DHCP option by dnsmasq's name or number (`ntp-server`, `42`, `option6:dns-server`)."""

    option: str
    value: str

    def __attrs_post_init__(self) -> None:
        for text in (self.option, self.value):
            if not text.isprintable() or not text:
                raise NetError(f"{text!r} cannot be part of a DHCP option", "use printable text")


class Transport(enum.Enum):
    """What has ports."""

    TCP = "tcp"
    UDP = "udp"


@attrs.frozen(kw_only=True)
class PortForward:
    """Ports of the host that lead to a guest: `host_port` to `port`, `count` of them in a row.

    `address`: the host's, None for any. The guest is known by the `name` of its lease, or by `ip`.
    """

    proto: Transport = Transport.TCP
    address: IPv4Address | None = None
    host_port: int = attrs.field(validator=check_port)
    name: str | None = attrs.field(default=None, validator=check_host_name)
    ip: IPv4Address | None = None
    port: int = attrs.field(validator=check_port)
    count: int = 1

    def __attrs_post_init__(self) -> None:
        if (self.name is None) == (self.ip is None):
            raise NetError(f"port {self.host_port} leads to a name or an address: give one of them")
        last = max(self.host_port, self.port) + self.count - 1
        if self.count < 1 or last >= 1 << 16:
            raise NetError(
                f"{self.count} ports from {self.host_port} to {self.port} are not possible",
                "ports have numbers from 1 to 65535",
            )


def pick_address(mac: str, dhcp: DhcpRange, used: Collection[IPv4Address]) -> IPv4Address:
    """Pick an address from `dhcp` by the hash of the MAC; the next one where it is in `used`.

    Raises NetError if every address of the range is used.
    """
    size = len(dhcp)
    first = int.from_bytes(make_digest(mac.lower())) % size
    for step in range(size):
        if (address := dhcp.start + (first + step) % size) not in used:
            return address
    raise NetError(
        f"all {size} addresses of the DHCP range {dhcp} are taken",
        "widen the range or remove machines",
    )
