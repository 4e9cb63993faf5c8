"""A rule as nf_tables expressions, in the kernel's words (linux/netfilter/nf_tables.h).

pyroute2 has helpers for three expressions, of which the one for addresses is wrong for prefixes
that are not whole bytes, and its general encoder takes 4 ms for the rules of one network. The
format is simple: attributes of length, type and payload, numbers in network byte order.
"""

from __future__ import annotations

import struct
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final

from qorch_net.plan import IFNAMSIZ
from qorch_net.rules import AddressType, Dnat, Field, Protocol, State, Verdict

if TYPE_CHECKING:
    from qorch_net.rules import Match, Rule
    from qorch_net.rules.match import Number

_REGISTER, _REGISTER_2 = 1, 2  # NFT_REG_1, NFT_REG_2
_EQUAL, _NOT_EQUAL = 0, 1  # NFT_CMP_EQ, NFT_CMP_NEQ
_DROP, _ACCEPT = 0, 1  # NF_DROP, NF_ACCEPT
_JUMP: Final = -3  # NFT_JUMP
_LINK, _NETWORK, _TRANSPORT = 0, 1, 2  # NFT_PAYLOAD_*_HEADER
_DNAT: Final = 1  # NFT_NAT_DNAT
_FIB_ADDRESS_TYPE, _FIB_DADDR = 3, 2  # NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR

_META: Final = {  # NFT_META_* and the size of the value
    Field.IIFNAME: (6, IFNAMSIZ),
    Field.OIFNAME: (7, IFNAMSIZ),
    Field.NFPROTO: (15, 1),
    Field.ETHERTYPE: (1, 2),
    Field.L4PROTO: (16, 1),
}
_CT: Final = {Field.CT_STATE: 0, Field.CT_STATUS: 2}  # NFT_CT_*
_PAYLOAD: Final = {  # header, offset, size
    Field.IP_SADDR: (_NETWORK, 12, 4),
    Field.IP_DADDR: (_NETWORK, 16, 4),
    Field.IP6_SADDR: (_NETWORK, 8, 16),
    Field.IP6_DADDR: (_NETWORK, 24, 16),
    Field.SPORT: (_TRANSPORT, 0, 2),
    Field.DPORT: (_TRANSPORT, 2, 2),
    Field.ICMPV6_TYPE: (_TRANSPORT, 0, 1),
    Field.ND_TARGET: (_TRANSPORT, 8, 16),
    Field.ETHER_SADDR: (_LINK, 6, 6),
    Field.ARP_SENDER_MAC: (_NETWORK, 8, 6),
    Field.ARP_SENDER_IP: (_NETWORK, 14, 4),
}
_BITS: Final = {  # in host byte order
    State.ANSWER: 2 | 4,  # NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED
    State.DNAT: 1 << 5,  # IPS_DST_NAT
}
_LOCAL: Final = 2  # RTN_LOCAL, in host byte order


def make_expressions(rule: Rule) -> bytes:
    """Make the payload of NFTA_RULE_EXPRESSIONS, matches in the order of `str(rule)`."""
    return b"".join(map(_match, rule.matches)) + _act(rule.action)


def make_dispatch(verdict_map: str) -> bytes:
    """Make `iifname vmap @MAP`: go on where the map says for the interface it came in by."""
    load = _load(Field.IIFNAME)
    name = verdict_map.encode() + b"\0"
    # NFTA_LOOKUP_SET, _SREG, and register 0, the verdict, as _DREG.
    return load + _expression("lookup", (1, name), (2, make_u32(_REGISTER)), (3, make_u32(0)))


def make_jump(interface: str, chain: str) -> bytes:
    """Make an element of that map: NFTA_LIST_ELEM with key and verdict."""
    target = make_attribute(1, make_u32(_JUMP)) + make_attribute(2, chain.encode() + b"\0")
    return make_key(interface, make_attribute(2, make_attribute(2, target)))


def make_key(interface: str, rest: bytes = b"") -> bytes:
    """Make the key of an element of that map."""
    return make_attribute(1, make_attribute(1, _data(_pad(interface))) + rest)


def _match(match: Match) -> bytes:
    value, operator = match.value, _NOT_EQUAL if match.negated else _EQUAL
    load = _load(match.field)
    if isinstance(value, State):
        bits = _BITS[value].to_bytes(4, sys.byteorder)
        set_or_not = _EQUAL if match.negated else _NOT_EQUAL
        return load + _mask(bits) + _compare(set_or_not, bytes(4))
    if isinstance(value, IPv4Network | IPv6Network):
        mask = _mask(value.netmask.packed) if value.prefixlen < value.max_prefixlen else b""
        return load + mask + _compare(operator, value.network_address.packed)
    return load + _compare(operator, _encode(match.field, value))


def _load(field: Field) -> bytes:
    if field in _META:
        key, _ = _META[field]
        return _expression("meta", (1, make_u32(_REGISTER)), (2, make_u32(key)))
    if field in _CT:
        return _expression("ct", (1, make_u32(_REGISTER)), (2, make_u32(_CT[field])))
    if field is Field.DADDR_TYPE:
        numbers = _REGISTER, _FIB_ADDRESS_TYPE, _FIB_DADDR
        return _expression("fib", *((n, make_u32(x)) for n, x in enumerate(numbers, 1)))
    place = _REGISTER, *_PAYLOAD[field]
    return _expression("payload", *((n, make_u32(x)) for n, x in enumerate(place, 1)))


def _encode(
    field: Field, value: str | int | Number | AddressType | IPv4Address | IPv6Address
) -> bytes:
    if isinstance(value, IPv4Address | IPv6Address):
        return value.packed
    if isinstance(value, AddressType):
        return _LOCAL.to_bytes(4, sys.byteorder)
    if isinstance(value, str):
        is_name = field in {Field.IIFNAME, Field.OIFNAME}
        return _pad(value) if is_name else bytes.fromhex(value.replace(":", ""))
    size = _META[field][1] if field in _META else _PAYLOAD[field][2]
    return (value if isinstance(value, int) else value.value).to_bytes(size, "big")


def _mask(mask: bytes) -> bytes:
    size, register = len(mask), make_u32(_REGISTER)
    return _expression(
        "bitwise",
        (1, register),
        (2, register),
        (3, make_u32(size)),
        (4, _data(mask)),
        (5, _data(bytes(size))),  # xor with nothing
    )


def _compare(operator: int, value: bytes) -> bytes:
    return _expression("cmp", (1, make_u32(_REGISTER)), (2, make_u32(operator)), (3, _data(value)))


def _act(action: Verdict | Dnat) -> bytes:
    if isinstance(action, Dnat):
        return _translate(action)
    if action is Verdict.MASQUERADE:
        return _expression("masq")
    code = make_attribute(1, make_u32(_ACCEPT if action is Verdict.ACCEPT else _DROP))
    # Register 0 is the verdict. NFTA_DATA_VERDICT is 2, NFTA_VERDICT_CODE 1.
    return _expression("immediate", (1, make_u32(0)), (2, make_attribute(2, code)))


def _translate(dnat: Dnat) -> bytes:
    family = Protocol.IPV4 if dnat.address.version == 4 else Protocol.IPV6
    port = dnat.port.to_bytes(2, "big")
    return b"".join(
        (
            _expression("immediate", (1, make_u32(_REGISTER)), (2, _data(dnat.address.packed))),
            _expression("immediate", (1, make_u32(_REGISTER_2)), (2, _data(port))),
            _expression(
                "nat",
                (1, make_u32(_DNAT)),
                (2, make_u32(family.value)),
                (3, make_u32(_REGISTER)),  # NFTA_NAT_REG_ADDR_MIN
                (5, make_u32(_REGISTER_2)),  # NFTA_NAT_REG_PROTO_MIN
            ),
        )
    )


def _expression(name: str, *attributes: tuple[int, bytes]) -> bytes:
    details = b"".join(make_attribute(number, payload) for number, payload in attributes)
    # NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA.
    return make_attribute(1, make_attribute(1, name.encode() + b"\0") + make_attribute(2, details))


def _data(value: bytes) -> bytes:
    return make_attribute(1, value)  # NFTA_DATA_VALUE


def make_attribute(number: int, payload: bytes) -> bytes:
    """Make an attribute: length, type, payload, padding."""
    return struct.pack("=HH", len(payload) + 4, number) + payload + bytes(-len(payload) % 4)


def make_u32(number: int) -> bytes:
    """Make a number of 32 bits as nf_tables has them: in network byte order."""
    return (number & 0xFFFFFFFF).to_bytes(4, "big")


def _pad(name: str) -> bytes:
    return name.encode().ljust(IFNAMSIZ, b"\0")
