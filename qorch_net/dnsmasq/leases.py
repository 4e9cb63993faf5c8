"""dnsmasq's lease file: who holds which address."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from qorch_net.plan import IpAddress, Lease

_DUID_LLT, _DUID_LL = "00:01:00:01:", "00:03:00:01:"  # RFC 8415, 11: made from an Ethernet address
_LLT_PARTS, _LL_PARTS = 14, 10


@attrs.frozen(kw_only=True)
class ActiveLease:
    """An address that a guest holds. `expires` None: never. `mac` None: DHCPv6 does not tell."""

    mac: str | None
    ip: IpAddress
    name: str | None
    expires: datetime | None


def parse_leases(text: str) -> tuple[ActiveLease, ...]:
    """Read a lease file; lines that are none, or half written, are left out."""
    return tuple(lease for line in text.splitlines() if (lease := _parse(line)))


def is_stale(active: ActiveLease, leases: Collection[Lease]) -> bool:
    """Whether this address is kept for another by now, or its holder is to have another."""
    if not isinstance(active.ip, IPv4Address):
        return False
    return any((active.ip == x.ip) != (active.mac == x.mac) for x in leases if x.ip)


def drop_stale(text: str, leases: Collection[Lease]) -> str:
    """Make the lease file without those."""

    def kept() -> Iterator[str]:
        for line in text.splitlines(keepends=True):
            lease = _parse(line)
            if lease is None or not is_stale(lease, leases):
                yield line

    return "".join(kept())


def _parse(line: str) -> ActiveLease | None:
    """Read `expiry MAC address name client-id` or `expiry IAID address name DUID`.

    An other hardware's address is `06-…`, a temporary address' IAID `T…`.
    """
    try:
        expiry, mac, ip, name, identity, *_ = line.split()
        address = ip_address(ip)
        return ActiveLease(
            mac=mac.rpartition("-")[2] if address.version == 4 else _find_mac(identity),
            ip=address,
            name=None if name == "*" else name,
            expires=datetime.fromtimestamp(int(expiry), UTC) if expiry != "0" else None,
        )
    except (ValueError, OverflowError, OSError):
        return None


def _find_mac(duid: str) -> str | None:
    parts = duid.split(":")
    if duid.startswith(_DUID_LLT) and len(parts) == _LLT_PARTS:
        return ":".join(parts[8:])
    if duid.startswith(_DUID_LL) and len(parts) == _LL_PARTS:
        return ":".join(parts[4:])
    return None
