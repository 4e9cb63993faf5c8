"""What a network and a tap shall be: values and pure helpers, the same on any machine.

Names and addresses are made from hashes of the owner (8 hex digits that stand for a state
directory) and of the thing's label (`network/lan`, `vm/web/nic0`): the same input gives the same
plan, and two state directories on one host do not meet. Whatever we make on the host carries
`owner` and `label` as its mark, so that it is found again without a record of ours.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any, Final

import attrs

from qorch_net.errors import NetError

if TYPE_CHECKING:
    from collections.abc import Collection

IFNAMSIZ: Final = 16  # with the closing NUL: linux/if.h
_OWNER = re.compile(r"[0-9a-f]{8}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_INTERFACE_NAME = re.compile(r"[!-.0-9;-~]+")  # printable; the kernel refuses `/`, `:` and spaces


class Mode(enum.Enum):
    """How a network reaches the world."""

    NAT = "nat"


@attrs.frozen
class Mark:
    """Whose a thing on the host is: written as interface alias, table name or environment."""

    owner: str
    label: str

    def __str__(self) -> str:
        return f"{self.owner}:{self.label}"

    @property
    def alias(self) -> str:
        """The mark as an interface alias."""
        return f"qorch:{self}"

    @property
    def network(self) -> str | None:
        """The network's name, if the thing belongs to a network."""
        kind, _, name = self.label.partition("/")
        return name if kind == "network" and _HOST_NAME.fullmatch(name) else None


def find_mark(text: str | None) -> Mark | None:
    """Find the mark in an interface alias; None if it is not one of ours."""
    prefix, _, mark = (text or "").partition(":")
    owner, _, label = mark.partition(":")
    return Mark(owner, label) if prefix == "qorch" and _OWNER.fullmatch(owner) and label else None


def _check_owner(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    if not _OWNER.fullmatch(value):
        raise NetError(f"{value!r} is no owner", "an owner is 8 lower-case hexadecimal digits")


def _check_mac(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    if not _MAC.fullmatch(value):
        raise NetError(f"{value!r} is no MAC address", "write it like 52:54:00:12:34:56")
    if int(value[:2], 16) & 1:
        raise NetError(f"{value} is a multicast MAC address", "the first byte must be even")


def _check_host_name(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    if not _HOST_NAME.fullmatch(value):
        raise NetError(
            f"{value!r} is not a valid host name",
            "letters, digits and inner hyphens, at most 63 characters",
        )


def _check_domain(instance: object, field: attrs.Attribute[str], value: str) -> None:
    for part in value.split("."):
        _check_host_name(instance, field, part)


def _check_interface_name(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    if len(value) >= IFNAMSIZ:
        raise NetError(
            f"the interface name {value!r} has {len(value)} characters",
            f"Linux allows {IFNAMSIZ - 1}",
        )
    if not _INTERFACE_NAME.fullmatch(value) or value in {".", ".."}:
        raise NetError(
            f"{value!r} is no interface name",
            "printable characters but no '/', ':' or space",
        )


def _check_mtu(_instance: object, _field: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and not 576 <= value <= 65535:
        raise NetError(f"an MTU of {value} is not possible", "IPv4 works from 576 to 65535 bytes")


@attrs.frozen(kw_only=True)
class Lease:
    """An address kept for one MAC, and the DNS name that points to it."""

    mac: str = attrs.field(validator=_check_mac)
    ip: IPv4Address
    name: str = attrs.field(validator=_check_host_name)


@attrs.frozen(kw_only=True)
class DhcpRange:
    """The addresses that DHCP gives away, both ends included."""

    start: IPv4Address
    end: IPv4Address

    def __attrs_post_init__(self) -> None:
        if self.start > self.end:
            raise NetError(
                f"the DHCP range {self} is empty", "its start must not lie behind its end"
            )

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    def __contains__(self, address: IPv4Address) -> bool:
        return self.start <= address <= self.end

    def __len__(self) -> int:
        return int(self.end) - int(self.start) + 1


@attrs.frozen(kw_only=True)
class NetworkPlan:
    """One network, down to every name and address.

    `gateway` is the bridge's own address with the prefix of the subnet. `dhcp` None means DNS only.
    `mtu` None leaves it to the kernel.
    """

    name: str = attrs.field(validator=_check_host_name)
    owner: str = attrs.field(validator=_check_owner)
    bridge: str = attrs.field(validator=_check_interface_name)
    mac: str = attrs.field(validator=_check_mac)
    gateway: IPv4Interface
    dhcp: DhcpRange | None
    domain: str = attrs.field(validator=_check_domain)
    mode: Mode = Mode.NAT
    mtu: int | None = attrs.field(default=None, validator=_check_mtu)
    leases: tuple[Lease, ...] = ()

    @property
    def mark(self) -> Mark:
        """What the bridge and dnsmasq carry."""
        return Mark(self.owner, f"network/{self.name}")

    @property
    def subnet(self) -> IPv4Network:
        """The gateway's network."""
        return self.gateway.network

    def __attrs_post_init__(self) -> None:
        self._check_subnet()
        if self.dhcp:
            self._check_range(self.dhcp)
        self._check_leases()

    def _check_subnet(self) -> None:
        subnet = self.subnet
        if subnet.prefixlen > 30:
            raise NetError(
                f"the subnet {subnet} has no room for a machine",
                "the prefix can be /30 at most; /24 is usual",
            )
        if self.gateway.ip in {subnet.network_address, subnet.broadcast_address}:
            raise NetError(
                f"{self.gateway.ip} cannot be the gateway of {subnet}",
                f"take an address inside, such as {subnet.network_address + 1}",
            )

    def _check_range(self, dhcp: DhcpRange) -> None:
        first, last = self.subnet.network_address + 1, self.subnet.broadcast_address - 1
        if dhcp.start < first or dhcp.end > last:
            raise NetError(
                f"the DHCP range {dhcp} is not inside the subnet {self.subnet}",
                f"take addresses from {first} to {last}",
            )
        if self.gateway.ip in dhcp:
            raise NetError(
                f"the DHCP range {dhcp} contains the gateway {self.gateway.ip}",
                "start the range behind the gateway",
            )

    def _check_leases(self) -> None:
        seen: dict[str, Lease] = {}
        hosts = {self.subnet.network_address, self.subnet.broadcast_address, self.gateway.ip}
        for lease in self.leases:
            if lease.ip not in self.subnet or lease.ip in hosts:
                raise NetError(
                    f"{lease.ip} of {lease.name} is no address for a machine in {self.subnet}",
                    f"the gateway is {self.gateway.ip}",
                )
            for key in (lease.mac, str(lease.ip), lease.name.lower()):
                if other := seen.get(key):
                    raise NetError(f"{lease.name} and {other.name} both want {key}")
                seen[key] = lease


@attrs.frozen(kw_only=True)
class TapPlan:
    """One tap: `label` says whose it is (`vm/web/nic0`), `bridge` where it is plugged in."""

    name: str = attrs.field(validator=_check_interface_name)
    owner: str = attrs.field(validator=_check_owner)
    label: str
    bridge: str
    mtu: int | None = attrs.field(default=None, validator=_check_mtu)

    @property
    def mark(self) -> Mark:
        """What the interface's alias says."""
        return Mark(self.owner, self.label)


def make_interface_name(owner: str, label: str, hint: str) -> str:
    """Make an interface name of at most 15 characters, such as `qk3xbd-web`.

    `q`, five characters of a hash of owner and label, and `hint` for human eyes.
    """
    code = base64.b32encode(_digest(owner, label)).decode().lower()[:5]
    readable = re.sub(r"[^a-z0-9-]", "", hint.lower())[:8].strip("-")
    return f"q{code}-{readable}" if readable else f"q{code}"


def make_bridge_mac(owner: str, name: str) -> str:
    """Make a stable, locally administered MAC address for the bridge of a network."""
    return "02:" + _digest(owner, "network", name)[:5].hex(":")


def pick_address(mac: str, dhcp: DhcpRange, used: Collection[IPv4Address]) -> IPv4Address:
    """Pick an address from `dhcp` by the hash of the MAC; the next one where it is in `used`.

    Raises NetError if every address of the range is used.
    """
    size = len(dhcp)
    first = int.from_bytes(_digest(mac.lower())) % size
    for step in range(size):
        if (address := dhcp.start + (first + step) % size) not in used:
            return address
    raise NetError(
        f"all {size} addresses of the DHCP range {dhcp} are taken",
        "widen the range or remove machines",
    )


def _digest(*words: str) -> bytes:
    return hashlib.sha256("\0".join(words).encode()).digest()
