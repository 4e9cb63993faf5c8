"""Read which ports of this host rules of others lead elsewhere.

A rule that compares ports with a set, or by a match of the old iptables, is not understood.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETRULE

from qorch_net.attributes import get_text, split_attributes
from qorch_net.foreign import ForeignForward
from qorch_net.netlink.nft import (
    EXPRESSIONS,
    FAMILIES,
    dump,
    get_comment,
    get_place,
    parse_expressions,
)
from qorch_net.netlink.raw import RawNft
from qorch_net.plan import Transport
from qorch_net.rules import TABLE_PREFIX, KernelRule, make_table_name

if TYPE_CHECKING:
    from qorch_net.plan import IpAddress

# linux/netfilter/nf_tables.h
_META_L4PROTO: Final = 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_CMP_EQ, _CMP_LTE, _CMP_GTE = 0, 3, 5
_DNAT: Final = 1
_TARGETS: Final = ("DNAT", "REDIRECT")
_DPORT: Final = (_TRANSPORT_HEADER, 2, 2)  # base, offset, length
_DADDR: Final = ((_NETWORK_HEADER, 16, 4), (_NETWORK_HEADER, 24, 16))
_TRANSPORTS: Final = {6: Transport.TCP, 17: Transport.UDP}

Attributes = dict[int, bytes]


@attrs.define
class _Reading:
    """What a rule has said so far; `loaded` is what the next comparison is about."""

    loaded: object = None
    transport: Transport | None = None
    first: int | None = None
    last: int | None = None
    address: IpAddress | None = None
    leads: bool = False

    def read(self, name: str, parts: Attributes) -> None:
        """Go on with one expression."""
        match name:
            case "meta":
                self.loaded = _number(parts, 2) if 1 in parts else None
            case "payload":
                self.loaded = tuple(_number(parts, key) for key in (2, 3, 4))
            case "bitwise":
                self.loaded = None  # what follows is about a part of it
            case "cmp":
                self._compare(_number(parts, 2), _value(parts, 3))
            case "range" if self.loaded == _DPORT and not _number(parts, 2):
                self.first, self.last = (int.from_bytes(_value(parts, key)) for key in (3, 4))
            case "nat":
                self.leads = _number(parts, 1) == _DNAT
            case "redir":
                self.leads = True
            case "target":
                self.leads = get_text(parts.get(1)) in _TARGETS

    def _compare(self, operator: int, value: bytes) -> None:
        number = int.from_bytes(value)
        if self.loaded == _DPORT:
            if operator in {_CMP_EQ, _CMP_GTE}:
                self.first = number
            if operator in {_CMP_EQ, _CMP_LTE}:
                self.last = number
        elif operator == _CMP_EQ and self.loaded == _META_L4PROTO:
            self.transport = _TRANSPORTS.get(number)
        elif operator == _CMP_EQ and self.loaded in _DADDR:
            self.address = ip_address(value)


def find_foreign_forwards(owner: str, nft: Any) -> tuple[ForeignForward, ...]:
    """Find those of everybody but this owner, by an open socket."""
    own = make_table_name(owner)
    found = []
    for rule in dump(nft, RawNft(), NFT_MSG_GETRULE):
        family, table, chain = get_place(rule)
        if family not in FAMILIES or table == own:
            continue
        reading = _Reading()
        for name, data in parse_expressions(rule.get_bytes(EXPRESSIONS) or b""):
            reading.read(name, dict(split_attributes(data)))
        if not reading.leads or not reading.transport or None in {reading.first, reading.last}:
            continue
        comment = KernelRule(chain=chain, comment=get_comment(rule), expressions=b"")
        found.append(
            ForeignForward(
                family=FAMILIES[family],
                table=table,
                chain=chain,
                subject=comment.subject if table.startswith(TABLE_PREFIX) else "",
                transport=reading.transport,
                first=reading.first or 0,
                last=reading.last or 0,
                address=reading.address,
            )
        )
    return tuple(found)


def _number(parts: Attributes, key: int) -> int:
    return int.from_bytes(parts.get(key, b""))


def _value(parts: Attributes, key: int) -> bytes:
    return dict(split_attributes(parts.get(key, b""))).get(1, b"")  # NFTA_DATA_VALUE
