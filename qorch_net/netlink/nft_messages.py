"""Messages to nf_tables: what pyroute2's own encoder would take too long for is bytes of ours.

Rules travel with their expressions as bytes: those of ours come from `qorch_net.expressions`, those
of networks that stay as they are go back to the kernel as they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFPROTO_INET,
    NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
    nft_chain_msg,
    nft_table_msg,
)

from qorch_net.expressions import make_dispatch, make_expressions
from qorch_net.plan import IFNAMSIZ
from qorch_net.rules import GUARD_CHAIN, GUARDS, Chain, KernelRule, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting")
NFPROTO_BRIDGE: Final = 7
DISPATCH: Final = "guards"  # the comment of the rule that finds a frame's tap
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ACCEPT: Final = 1  # NF_ACCEPT, also as a chain's policy
_MAP: Final = 8  # NFT_SET_MAP
_INTERFACE_NAME, _VERDICT = 41, 0xFFFFFF00  # TYPE_IFNAME of nft, NFT_DATA_VERDICT


class RawRule(nfgen_msg):  # type: ignore[misc]
    """nft_rule_msg without a look into the expressions."""

    prefix = "NFTA_RULE_"
    nla_map = (
        ("NFTA_RULE_UNSPEC", "none"),
        ("NFTA_RULE_TABLE", "asciiz"),
        ("NFTA_RULE_CHAIN", "asciiz"),
        ("NFTA_RULE_HANDLE", "be64"),
        ("NFTA_RULE_EXPRESSIONS", "cdata"),
        ("NFTA_RULE_COMPAT", "cdata"),
        ("NFTA_RULE_POSITION", "be64"),
        ("NFTA_RULE_USERDATA", "cdata"),
    )


class RawSet(nfgen_msg):  # type: ignore[misc]
    """nft_set_msg, as far as a map of ours needs it."""

    prefix = "NFTA_SET_"
    nla_map = (
        ("NFTA_SET_UNSPEC", "none"),
        ("NFTA_SET_TABLE", "asciiz"),
        ("NFTA_SET_NAME", "asciiz"),
        ("NFTA_SET_FLAGS", "be32"),
        ("NFTA_SET_KEY_TYPE", "be32"),
        ("NFTA_SET_KEY_LEN", "be32"),
        ("NFTA_SET_DATA_TYPE", "be32"),
        ("NFTA_SET_DATA_LEN", "be32"),
        ("NFTA_SET_POLICY", "be32"),
        ("NFTA_SET_DESC", "cdata"),
        ("NFTA_SET_ID", "be32"),
    )


class RawElements(nfgen_msg):  # type: ignore[misc]
    """nft_set_elem_list_msg without a look into the elements."""

    prefix = "NFTA_SET_ELEM_LIST_"
    nla_map = (
        ("NFTA_SET_ELEM_LIST_UNSPEC", "none"),
        ("NFTA_SET_ELEM_LIST_TABLE", "asciiz"),
        ("NFTA_SET_ELEM_LIST_SET", "asciiz"),
        ("NFTA_SET_ELEM_LIST_ELEMENTS", "cdata"),
    )


def make_guard_table(name: str) -> Iterator[Any]:
    """Make the bridge table, with the chain that finds the tap of each frame."""
    bridge = NFPROTO_BRIDGE
    yield make_create(nft_table_msg(), NFT_MSG_NEWTABLE, bridge, NAME=name)
    yield make_chain(name, GUARD_CHAIN, bridge)
    yield make_create(
        RawSet(),
        NFT_MSG_NEWSET,
        bridge,
        TABLE=name,
        NAME=GUARDS,
        FLAGS=_MAP,
        KEY_TYPE=_INTERFACE_NAME,
        KEY_LEN=IFNAMSIZ,
        DATA_TYPE=_VERDICT,
        ID=1,
    )
    dispatch = KernelRule(
        chain=GUARD_CHAIN.name, comment=DISPATCH, expressions=make_dispatch(GUARDS)
    )
    yield make_rule(name, dispatch, bridge)


def make_element(table: str, kind: int, element: bytes) -> Any:
    """Add an element to the map of guards, or remove it."""
    flags = NLM_F_CREATE if kind == NFT_MSG_NEWSETELEM else 0
    attributes: dict[str, object] = {"TABLE": table, "SET": GUARDS, "ELEMENTS": element}
    return _make_message(RawElements(), kind, flags, attributes, NFPROTO_BRIDGE)


def make_batch(messages: list[Any]) -> list[Any]:
    """Put messages into one transaction."""
    return [_bracket(_BATCH_BEGIN), *messages, _bracket(_BATCH_END)]


def _bracket(kind: int) -> Any:
    message = nfgen_msg()
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    message["header"].update(type=kind, flags=NLM_F_REQUEST)
    return message


def make_create(message: Any, kind: int, family: int = NFPROTO_INET, **attributes: object) -> Any:
    """Make a message that creates something."""
    return _make_message(message, kind, NLM_F_CREATE | NLM_F_APPEND, attributes, family)


def make_delete(message: Any, table: str, kind: int, family: int = NFPROTO_INET) -> Any:
    """Make a message that removes a table, or all of a kind in it."""
    key = "NAME" if kind == NFT_MSG_DELTABLE else "TABLE"
    return _make_message(message, kind, 0, {key: table}, family)


def _make_message(
    message: Any, kind: int, flags: int, attributes: dict[str, object], family: int
) -> Any:
    message["nfgen_family"] = family
    message["attrs"] = [[message.prefix + key, value] for key, value in attributes.items()]
    message["header"].update(
        type=NFNL_SUBSYS_NFTABLES << 8 | kind, flags=NLM_F_REQUEST | NLM_F_ACK | flags
    )
    return message


def make_chain(table: str, chain: Chain, family: int = NFPROTO_INET) -> Any:
    """Make a chain."""
    base: dict[str, object] = {}
    if chain.hook:
        hook = [
            ["NFTA_HOOK_HOOKNUM", HOOKS.index(chain.hook)],
            ["NFTA_HOOK_PRIORITY", chain.priority],
        ]
        base = {"TYPE": chain.type, "HOOK": {"attrs": hook}, "POLICY": _ACCEPT}
    return make_create(
        nft_chain_msg(), NFT_MSG_NEWCHAIN, family, TABLE=table, NAME=chain.name, **base
    )


def make_rule(table: str, rule: Rule | KernelRule, family: int = NFPROTO_INET) -> Any:
    """Add a rule to the end of its chain."""
    comment = rule.comment.encode() + b"\0"
    return make_create(
        RawRule(),
        NFT_MSG_NEWRULE,
        family,
        TABLE=table,
        CHAIN=rule.chain,
        EXPRESSIONS=rule.expressions if isinstance(rule, KernelRule) else make_expressions(rule),
        USERDATA=bytes([0, len(comment)]) + comment,
    )
