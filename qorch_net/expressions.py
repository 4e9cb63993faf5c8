"""A rule as nf_tables expressions, in the kernel's words (linux/netfilter/nf_tables.h).

pyroute2 has helpers for three expressions, of which the one for addresses is wrong for prefixes
that are not whole bytes, and its general encoder takes 4 ms for the rules of one network. The
format is simple: attributes of length, type and payload, numbers in network byte order.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Final

from qorch_net.plan import IFNAMSIZ
from qorch_net.rules import Verdict

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from qorch_net.rules import Rule

_REGISTER: Final = 1  # NFT_REG_1
_EQUAL, _NOT_EQUAL = 0, 1  # NFT_CMP_EQ, NFT_CMP_NEQ
_IIFNAME, _OIFNAME, _NFPROTO = 6, 7, 15  # NFT_META_*
_CT_STATE: Final = 0  # NFT_CT_STATE
_ESTABLISHED_OR_RELATED: Final = 2 | 4  # NF_CT_STATE_BIT, a number in host byte order
_NETWORK_HEADER: Final = 1  # NFT_PAYLOAD_NETWORK_HEADER
_SADDR, _DADDR = 12, 16  # offsets in an IPv4 header
_DROP, _ACCEPT = 0, 1  # NF_DROP, NF_ACCEPT


def make_expressions(rule: Rule) -> bytes:
    """Make the payload of NFTA_RULE_EXPRESSIONS, matches in the order of `str(rule)`."""
    parts = []
    if rule.iifname:
        parts.append(_match_meta(_IIFNAME, _pad(rule.iifname)))
    if rule.oifname:
        parts.append(_match_meta(_OIFNAME, _pad(rule.oifname)))
    if rule.protocol:
        parts.append(_match_meta(_NFPROTO, bytes([rule.protocol.value])))
    if rule.answers:
        state = _ESTABLISHED_OR_RELATED.to_bytes(4, sys.byteorder)
        parts.append(_expression("ct", (1, _u32(_REGISTER)), (2, _u32(_CT_STATE))))
        parts.append(_mask(state) + _compare(_NOT_EQUAL, bytes(4)))
    if rule.saddr:
        parts.append(_match_network(_SADDR, _EQUAL, rule.saddr))
    parts += [_match_network(_DADDR, _NOT_EQUAL, network) for network in rule.not_daddr]
    return b"".join(parts) + _end(rule.verdict)


def _match_meta(key: int, value: bytes) -> bytes:
    load = _expression("meta", (1, _u32(_REGISTER)), (2, _u32(key)))
    return load + _compare(_EQUAL, value)


def _match_network(offset: int, operator: int, network: IPv4Network) -> bytes:
    load = _expression(
        "payload",
        (1, _u32(_REGISTER)),
        (2, _u32(_NETWORK_HEADER)),
        (3, _u32(offset)),
        (4, _u32(4)),
    )
    mask = _mask(network.netmask.packed)
    return load + mask + _compare(operator, network.network_address.packed)


def _mask(mask: bytes) -> bytes:
    size, register = len(mask), _u32(_REGISTER)
    return _expression(
        "bitwise",
        (1, register),
        (2, register),
        (3, _u32(size)),
        (4, _data(mask)),
        (5, _data(bytes(size))),  # xor with nothing
    )


def _compare(operator: int, value: bytes) -> bytes:
    return _expression("cmp", (1, _u32(_REGISTER)), (2, _u32(operator)), (3, _data(value)))


def _end(verdict: Verdict) -> bytes:
    if verdict is Verdict.MASQUERADE:
        return _expression("masq")
    code = _attribute(1, _u32(_ACCEPT if verdict is Verdict.ACCEPT else _DROP))
    # Register 0 is the verdict. NFTA_DATA_VERDICT is 2, NFTA_VERDICT_CODE 1.
    return _expression("immediate", (1, _u32(0)), (2, _attribute(2, code)))


def _expression(name: str, *attributes: tuple[int, bytes]) -> bytes:
    details = b"".join(_attribute(number, payload) for number, payload in attributes)
    # NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA.
    return _attribute(1, _attribute(1, name.encode() + b"\0") + _attribute(2, details))


def _data(value: bytes) -> bytes:
    return _attribute(1, value)  # NFTA_DATA_VALUE


def _attribute(number: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, number) + payload + bytes(-len(payload) % 4)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _pad(name: str) -> bytes:
    return name.encode().ljust(IFNAMSIZ, b"\0")
