"""Names, marks and addresses: what is well formed, and how ours are made."""

from __future__ import annotations

import base64
import hashlib
import re
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from qorch_net.errors import NetError

if TYPE_CHECKING:
    from collections.abc import Collection

IpAddress: TypeAlias = IPv4Address | IPv6Address

IFNAMSIZ: Final = 16  # with the closing NUL: linux/if.h
VLANS: Final = range(1, 4095)  # 0 and 4095 are reserved by 802.1Q
_OWNER = re.compile(r"[0-9a-f]{8}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_INTERFACE_NAME = re.compile(r"[!-.0-9;-~]+")  # printable; the kernel refuses `/`, `:` and spaces


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
    """Find the mark in an interface alias; None if it is not one of ours.

    What follows after a space is no part of it.
    """
    prefix, _, mark = (text or "").partition(" ")[0].partition(":")
    owner, _, label = mark.partition(":")
    return Mark(owner, label) if prefix == "qorch" and _OWNER.fullmatch(owner) and label else None


def make_interface_name(owner: str, label: str, hint: str) -> str:
    """Make an interface name of at most 15 characters, such as `qk3xbd-web`.

    `q`, five characters of a hash of owner and label, and `hint` for human eyes.
    """
    code = base64.b32encode(make_digest(owner, label)).decode().lower()[:5]
    readable = re.sub(r"[^a-z0-9-]", "", hint.lower())[:8].strip("-")
    return f"q{code}-{readable}" if readable else f"q{code}"


def make_subinterface_name(owner: str, uplink: str, vlan: int) -> str:
    """Make the name of a VLAN's sub-interface: `eth0.10`, or one of ours where that is too long."""
    name = f"{uplink}.{vlan}"
    if len(name) < IFNAMSIZ:
        return name
    return make_interface_name(owner, f"vlan/{name}", f"vlan{vlan}")


def make_bridge_mac(owner: str, name: str) -> str:
    """Make a stable, locally administered MAC address for the bridge of a network."""
    return "02:" + make_digest(owner, "network", name)[:5].hex(":")


def make_digest(*words: str) -> bytes:
    """Make the hash that names and addresses come from."""
    return hashlib.sha256("\0".join(words).encode()).digest()


# -- validators: for attrs fields, None passes


def check_owner(_instance: object, _field: attrs.Attribute[str], value: str) -> None:
    """Raise NetError unless it is an owner."""
    if not _OWNER.fullmatch(value):
        raise NetError(f"{value!r} is no owner", "an owner is 8 lower-case hexadecimal digits")


def check_mac(_instance: object, _field: attrs.Attribute[Any], value: str | None) -> None:
    """Raise NetError unless it is the MAC address of one station."""
    if value is None:
        return
    if not _MAC.fullmatch(value):
        raise NetError(f"{value!r} is no MAC address", "write it like 52:54:00:12:34:56")
    if int(value[:2], 16) & 1:
        raise NetError(f"{value} is a multicast MAC address", "the first byte must be even")


def check_host_name(_instance: object, _field: attrs.Attribute[Any], value: str | None) -> None:
    """Raise NetError unless it is one label of a host name."""
    if value is not None and not _HOST_NAME.fullmatch(value):
        raise NetError(
            f"{value!r} is not a valid host name",
            "letters, digits and inner hyphens, at most 63 characters",
        )


def check_domain(instance: object, field: attrs.Attribute[str], value: str) -> None:
    """Raise NetError unless it is a domain of such labels."""
    for part in value.split("."):
        check_host_name(instance, field, part)


def check_interface_name(
    _instance: object, _field: attrs.Attribute[Any], value: str | None
) -> None:
    """Raise NetError unless the kernel would take it."""
    if value is None:
        return
    if len(value.encode()) >= IFNAMSIZ:
        raise NetError(
            f"the interface name {value!r} has {len(value)} characters",
            f"Linux allows {IFNAMSIZ - 1}",
        )
    if not _INTERFACE_NAME.fullmatch(value) or value in {".", ".."}:
        raise NetError(
            f"{value!r} is no interface name",
            "printable characters but no '/', ':' or space",
        )


def check_mtu(_instance: object, _field: attrs.Attribute[Any], value: int | None) -> None:
    """Raise NetError unless IPv4 can live with it."""
    if value is not None and not 576 <= value <= 65535:
        raise NetError(f"an MTU of {value} is not possible", "IPv4 works from 576 to 65535 bytes")


def check_vlan(_instance: object, _field: attrs.Attribute[Any], value: int | None) -> None:
    """Raise NetError unless a VLAN can have this number."""
    if value is not None and value not in VLANS:
        raise NetError(f"there is no VLAN {value}", "VLANs have numbers from 1 to 4094")


def check_vlans(instance: object, field: attrs.Attribute[Any], values: Collection[int]) -> None:
    """Raise NetError unless each is the number of a VLAN, and none is there twice."""
    for value in values:
        check_vlan(instance, field, value)
    if len(set(values)) < len(values):
        raise NetError(f"a VLAN is listed twice: {', '.join(map(str, values))}", "list each once")


def check_port(_instance: object, _field: attrs.Attribute[int], value: int) -> None:
    """Raise NetError unless TCP and UDP have this port."""
    if not 0 < value < 1 << 16:
        raise NetError(f"there is no port {value}", "ports have numbers from 1 to 65535")
