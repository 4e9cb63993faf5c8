"""Messages to nf_tables, in bytes of ours: pyroute2's encoder takes 0.2 ms for each.

A transaction is one request to pyroute2: its messages share a sequence number, and only the last
one asks for an answer. The kernel tells errors unasked, in the order of the messages: so the first
answer is the first error, or says that all is done.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import attrs
from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFPROTO_INET,
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE,
    NFT_MSG_DELSETELEM,
    NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
)

from qorch_net.expressions import (
    make_attribute,
    make_dispatch,
    make_expressions,
    make_jump,
    make_key,
    make_u32,
)
from qorch_net.plan import IFNAMSIZ
from qorch_net.rules import GUARD_CHAIN, GUARDS, Chain, GuardChain, KernelRule, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting")
NFPROTO_BRIDGE: Final = 7
DISPATCH: Final = "guards"  # the comment of the rule that finds a frame's tap
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ACCEPT: Final = 1  # NF_ACCEPT, also as a chain's policy
_MAP: Final = 8  # NFT_SET_MAP
_INTERFACE_NAME, _VERDICT = 41, 0xFFFFFF00  # TYPE_IFNAME of nft, NFT_DATA_VERDICT
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_FAMILY: Final = struct.Struct(">BBH")  # struct nfgenmsg: family, version, resource
_ANEW: Final = NLM_F_CREATE | NLM_F_APPEND

Attributes = tuple[tuple[int, bytes], ...]


@attrs.frozen
class Message:
    """One message; `attributes` by their numbers in linux/netfilter/nf_tables.h."""

    kind: int
    flags: int
    family: int
    attributes: Attributes

    def encode(self, sequence: int, port: int, *, last: bool) -> bytes:
        """Make its bytes; the last one of a transaction is answered."""
        body = _FAMILY.pack(self.family, 0, 0)
        body += b"".join(make_attribute(number, value) for number, value in self.attributes)
        flags = NLM_F_REQUEST | self.flags | (NLM_F_ACK if last else 0)
        kind = NFNL_SUBSYS_NFTABLES << 8 | self.kind
        return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, port) + body


class Batch(nfgen_msg):  # type: ignore[misc]
    """A transaction, which is one request to pyroute2."""

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__()
        self.messages = messages
        self["header"].update(type=_BATCH_BEGIN, flags=NLM_F_REQUEST | NLM_F_ACK)

    def encode(self) -> None:
        """Make the bytes of all messages, and the brackets around them."""
        sequence, port = self["header"]["sequence_number"], self["header"]["pid"]
        last = len(self.messages) - 1
        inner = b"".join(
            message.encode(sequence, port, last=index == last)
            for index, message in enumerate(self.messages)
        )
        begin, end = (_bracket(kind, sequence, port) for kind in (_BATCH_BEGIN, _BATCH_END))
        self.data = bytearray(begin + inner + end)


def _bracket(kind: int, sequence: int, port: int) -> bytes:
    body = _FAMILY.pack(0, 0, NFNL_SUBSYS_NFTABLES)
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST, sequence, port) + body


def make_table(name: str, family: int = NFPROTO_INET) -> Message:
    """Make a table."""
    return Message(NFT_MSG_NEWTABLE, _ANEW, family, ((1, _text(name)),))


def remove_table(name: str, family: int = NFPROTO_INET) -> Message:
    """Remove a table with all that is in it."""
    return Message(NFT_MSG_DELTABLE, 0, family, ((1, _text(name)),))


def remove_rules(table: str) -> Message:
    """Remove all rules of a table; its chains stay."""
    return Message(NFT_MSG_DELRULE, 0, NFPROTO_INET, ((1, _text(table)),))


def make_chain(table: str, chain: Chain, family: int = NFPROTO_INET) -> Message:
    """Make a chain."""
    attributes: Attributes = ((1, _text(table)), (3, _text(chain.name)))
    if chain.hook:
        hook = make_attribute(1, make_u32(HOOKS.index(chain.hook)))
        hook += make_attribute(2, make_u32(chain.priority))
        attributes += ((4, hook), (5, make_u32(_ACCEPT)), (7, _text(chain.type)))
    return Message(NFT_MSG_NEWCHAIN, _ANEW, family, attributes)


def make_rule(table: str, rule: Rule | KernelRule, family: int = NFPROTO_INET) -> Message:
    """Add a rule to the end of its chain."""
    comment = rule.comment.encode() + b"\0"
    attributes = (
        (1, _text(table)),
        (2, _text(rule.chain)),
        (4, rule.expressions if isinstance(rule, KernelRule) else make_expressions(rule)),
        (7, bytes([0, len(comment)]) + comment),
    )
    return Message(NFT_MSG_NEWRULE, _ANEW, family, attributes)


def make_guard_table(name: str) -> Iterator[Message]:
    """Make the bridge table, with the chain that finds the tap of each frame."""
    bridge = NFPROTO_BRIDGE
    yield make_table(name, bridge)
    yield make_chain(name, GUARD_CHAIN, bridge)
    numbers = ((3, _MAP), (4, _INTERFACE_NAME), (5, IFNAMSIZ), (6, _VERDICT), (10, 1))
    attributes: Attributes = ((1, _text(name)), (2, _text(GUARDS)))
    attributes += tuple((number, make_u32(value)) for number, value in numbers)
    yield Message(NFT_MSG_NEWSET, _ANEW, bridge, attributes)
    dispatch = KernelRule(
        chain=GUARD_CHAIN.name, comment=DISPATCH, expressions=make_dispatch(GUARDS)
    )
    yield make_rule(name, dispatch, bridge)


def make_guard(table: str, guard: GuardChain) -> Iterator[Message]:
    """Make a tap's chain and let the map lead there."""
    yield make_chain(table, Chain(name=guard.name), NFPROTO_BRIDGE)
    yield from (make_rule(table, rule, NFPROTO_BRIDGE) for rule in guard.rules)
    element = make_jump(guard.tap, guard.name)
    yield _element(table, NFT_MSG_NEWSETELEM, NLM_F_CREATE, element)


def remove_jump(table: str, guard: GuardChain) -> Message:
    """Let the map lead to a tap's chain no more."""
    return _element(table, NFT_MSG_DELSETELEM, 0, make_key(guard.tap))


def remove_guard(table: str, guard: GuardChain) -> Message:
    """Remove a tap's chain with its rules."""
    attributes = ((1, _text(table)), (3, _text(guard.name)))
    return Message(NFT_MSG_DELCHAIN, 0, NFPROTO_BRIDGE, attributes)


def _element(table: str, kind: int, flags: int, element: bytes) -> Message:
    attributes = ((1, _text(table)), (2, _text(GUARDS)), (3, element))
    return Message(kind, flags, NFPROTO_BRIDGE, attributes)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"
