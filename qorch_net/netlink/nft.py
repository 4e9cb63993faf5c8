"""The packet filter by nf_tables messages: read what is there, replace a table in one transaction.

pyroute2 has the messages; its helpers for matches are few, and the one for addresses is wrong for
prefixes that are not whole bytes. So expressions are built here, in the kernel's words
(linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFPROTO_INET,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    Cmp,
    Meta,
    NFTSocket,
    nft_chain_msg,
    nft_rule_msg,
    nft_table_msg,
)
from pyroute2.nftables.expressions import genex, masq, verdict

from qorch_net.errors import NetError
from qorch_net.plan import IFNAMSIZ
from qorch_net.rules import (
    RESTORE_FORWARDING,
    TABLE_PREFIX,
    Chain,
    KernelRule,
    Rule,
    Table,
    Verdict,
    make_table_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Network

_HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting")
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ACCEPT: Final = 1  # NF_ACCEPT, also as a chain's policy
_CT_STATE: Final = 0  # NFT_CT_STATE
_ANSWERS: Final = 2 | 4  # NF_CT_STATE_BIT of established and related, in host byte order
_NETWORK_HEADER: Final = 1
_SADDR, _DADDR = 12, 16  # offsets in an IPv4 header


@attrs.frozen(kw_only=True)
class Ruleset:
    """What the packet filter of this network namespace holds.

    `table`: the owner's, None if there is none. `neighbours`: tables of other qorch owners.
    `restoring`: one of the neighbours will set ip_forward back. `routers`: tables of others that
    filter what is forwarded or translate what leaves.
    """

    table: Table | None
    neighbours: tuple[str, ...]
    restoring: bool
    routers: tuple[str, ...]


class _RawRule(nfgen_msg):  # type: ignore[misc]
    """nft_rule_msg without a look into the expressions, which are handed back as they came."""

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


def find_ruleset(owner: str) -> Ruleset:
    """Look at the packet filter of the calling thread's network namespace."""
    name = make_table_name(owner)
    with _open_nft() as nft:
        tables = [
            (message["nfgen_family"], message.get_attr("NFTA_TABLE_NAME"))
            for message in _dump(nft, nft_table_msg(), NFT_MSG_GETTABLE)
        ]
        chains = _dump(nft, nft_chain_msg(), NFT_MSG_GETCHAIN)
        mine = (NFPROTO_INET, name) in tables
        rules = _find_rules(nft, name) if mine else ()
    own = [chain for chain in chains if _get_table(chain) == (NFPROTO_INET, name)]
    neighbours = {
        table
        for family, table in tables
        if family == NFPROTO_INET and table.startswith(TABLE_PREFIX) and table != name
    }
    return Ruleset(
        table=_make_table(own, rules) if mine else None,
        neighbours=tuple(sorted(neighbours)),
        restoring=any(
            _get_name(chain) == RESTORE_FORWARDING and _get_table(chain)[1] in neighbours
            for chain in chains
        ),
        routers=tuple(
            sorted(
                {
                    _get_table(chain)[1]
                    for chain in chains
                    if _is_router(chain) and _get_table(chain)[1] not in {name, *neighbours}
                }
            )
        ),
    )


def replace_table(owner: str, table: Table | None) -> None:
    """Put `table` in the place of the owner's table, or nothing for None, in one transaction."""
    name = make_table_name(owner)
    messages = [_table(name, NFT_MSG_NEWTABLE), _table(name, NFT_MSG_DELTABLE)]
    if table is not None:
        messages.append(_table(name, NFT_MSG_NEWTABLE))
        messages += [_chain(name, chain) for chain in sorted(table.chains, key=lambda c: c.name)]
        if table.restore_forwarding:
            messages.append(_message(nft_chain_msg(), name, NAME=RESTORE_FORWARDING))
        messages += [_rule(name, rule) for rule in table.rules]
    with _open_nft() as nft:
        nft.nlm_request_batch([_bracket(_BATCH_BEGIN), *messages, _bracket(_BATCH_END)])


@contextmanager
def _open_nft() -> Iterator[Any]:
    try:
        with NFTSocket(nfgen_family=0) as nft:
            # Only the table's name and the expressions' bytes are wanted of a rule.
            nft.register_policy({NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE: _RawRule})
            yield nft
    except NetlinkError as error:
        raise NetError(
            f"the kernel's packet filter refuses: {error.args[1]}",
            "nf_tables must be in the kernel, with inet family and NAT (modprobe nf_tables)",
        ) from error


def _dump(nft: Any, request: Any, kind: int, family: int = 0) -> list[Any]:
    request["nfgen_family"] = family
    request["header"].update(
        type=NFNL_SUBSYS_NFTABLES << 8 | kind, flags=NLM_F_REQUEST | NLM_F_DUMP
    )
    return list(nft.nlm_request_batch([request]))


def _find_rules(nft: Any, table: str) -> tuple[KernelRule, ...]:
    request = _RawRule()
    request["attrs"] = [["NFTA_RULE_TABLE", table]]
    return tuple(
        KernelRule(
            chain=message.get_attr("NFTA_RULE_CHAIN"),
            comment=_get_comment(message.get_attr("NFTA_RULE_USERDATA") or b""),
            expressions=message.get_attr("NFTA_RULE_EXPRESSIONS") or b"",
        )
        for message in _dump(nft, request, NFT_MSG_GETRULE, NFPROTO_INET)
        if message.get_attr("NFTA_RULE_TABLE") == table
    )


def _make_table(chains: list[Any], rules: tuple[KernelRule, ...]) -> Table:
    return Table(
        rules=rules,
        restore_forwarding=any(_get_name(chain) == RESTORE_FORWARDING for chain in chains),
        chains=frozenset(
            Chain(
                name=_get_name(chain),
                type=chain.get_attr("NFTA_CHAIN_TYPE") or "",
                hook=_get_hook(chain),
                priority=_get_priority(chain),
            )
            for chain in chains
            if _get_name(chain) != RESTORE_FORWARDING
        ),
    )


def _get_table(chain: Any) -> tuple[int, str]:
    return chain["nfgen_family"], chain.get_attr("NFTA_CHAIN_TABLE")


def _get_name(chain: Any) -> str:
    return str(chain.get_attr("NFTA_CHAIN_NAME"))


def _get_hook(chain: Any) -> str:
    hook = chain.get_attr("NFTA_CHAIN_HOOK")
    number = hook.get_attr("NFTA_HOOK_HOOKNUM") if hook else None
    return _HOOKS[number] if number is not None and number < len(_HOOKS) else ""


def _get_priority(chain: Any) -> int:
    hook = chain.get_attr("NFTA_CHAIN_HOOK")
    return int(hook.get_attr("NFTA_HOOK_PRIORITY")) if hook else 0


def _is_router(chain: Any) -> bool:
    nat = chain.get_attr("NFTA_CHAIN_TYPE") == "nat"
    return _get_hook(chain) == "forward" or (_get_hook(chain) == "postrouting" and nat)


def _get_comment(userdata: bytes) -> str:
    # Type 0 (NFTNL_UDATA_RULE_COMMENT), length, text, NUL: libnftnl/udata.h.
    return userdata[2:].rstrip(b"\0").decode(errors="replace") if userdata[:1] == b"\0" else ""


def _bracket(kind: int) -> Any:
    message = nfgen_msg()
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    message["header"].update(type=kind, flags=NLM_F_REQUEST)
    return message


def _message(message: Any, table: str, **attributes: object) -> Any:
    kind = NFT_MSG_NEWCHAIN if isinstance(message, nft_chain_msg) else NFT_MSG_NEWRULE
    message["attrs"] = [[message.prefix + "TABLE", table]]
    message["attrs"] += [[message.prefix + key, value] for key, value in attributes.items()]
    return _address(message, kind)


def _table(name: str, kind: int) -> Any:
    message = nft_table_msg()
    message["attrs"] = [["NFTA_TABLE_NAME", name]]
    return _address(message, kind)


def _address(message: Any, kind: int) -> Any:
    create = 0 if kind == NFT_MSG_DELTABLE else NLM_F_CREATE | NLM_F_APPEND
    message["nfgen_family"] = NFPROTO_INET
    message["header"].update(
        type=NFNL_SUBSYS_NFTABLES << 8 | kind, flags=NLM_F_REQUEST | NLM_F_ACK | create
    )
    return message


def _chain(table: str, chain: Chain) -> Any:
    if not chain.hook:
        return _message(nft_chain_msg(), table, NAME=chain.name)
    hook = [
        ["NFTA_HOOK_HOOKNUM", _HOOKS.index(chain.hook)],
        ["NFTA_HOOK_PRIORITY", chain.priority],
    ]
    return _message(
        nft_chain_msg(),
        table,
        NAME=chain.name,
        TYPE=chain.type,
        HOOK={"attrs": hook},
        POLICY=_ACCEPT,
    )


def _rule(table: str, rule: Rule | KernelRule) -> Any:
    comment = rule.comment.encode() + b"\0"
    userdata = bytes([0, len(comment)]) + comment
    if isinstance(rule, KernelRule):
        expressions: object = rule.expressions
        return _message(
            _RawRule(), table, CHAIN=rule.chain, EXPRESSIONS=expressions, USERDATA=userdata
        )
    return _message(
        nft_rule_msg(),
        table,
        CHAIN=rule.chain,
        EXPRESSIONS=make_expressions(rule),
        USERDATA=rule.comment,
    )


def make_expressions(rule: Rule) -> list[object]:
    """Turn a rule into nf_tables expressions, in the order of `str(rule)`."""
    verdicts = {Verdict.ACCEPT: verdict(1), Verdict.DROP: verdict(0), Verdict.MASQUERADE: masq()}
    result: list[object] = []
    if rule.iifname:
        result += _meta(Meta.NFT_META_IIFNAME, _interface(rule.iifname))
    if rule.oifname:
        result += _meta(Meta.NFT_META_OIFNAME, _interface(rule.oifname))
    if rule.protocol:
        result += _meta(Meta.NFT_META_NFPROTO, bytes([rule.protocol.value]))
    if rule.answers:
        result += [genex("ct", {"key": _CT_STATE, "dreg": 1}), *_mask(_host_order(_ANSWERS))]
        result.append(_compare(Cmp.NFT_CMP_NEQ, bytes(4)))
    if rule.saddr:
        result += _network(_SADDR, Cmp.NFT_CMP_EQ, rule.saddr)
    for network in rule.not_daddr:
        result += _network(_DADDR, Cmp.NFT_CMP_NEQ, network)
    return [*result, *verdicts[rule.verdict]]


def _meta(key: int, value: bytes) -> list[Any]:
    return [genex("meta", {"key": key, "dreg": 1}), _compare(Cmp.NFT_CMP_EQ, value)]


def _network(offset: int, comparison: int, network: IPv4Network) -> list[Any]:
    load = {"dreg": 1, "base": _NETWORK_HEADER, "offset": offset, "len": 4}
    return [
        genex("payload", load),
        *_mask(network.netmask.packed),
        _compare(comparison, network.network_address.packed),
    ]


def _mask(mask: bytes) -> list[Any]:
    size = len(mask)
    details = {"sreg": 1, "dreg": 1, "len": size, "mask": _data(mask), "xor": _data(bytes(size))}
    return [genex("bitwise", details)]


def _compare(comparison: int, value: bytes) -> Any:
    return genex("cmp", {"sreg": 1, "op": comparison, "data": _data(value)})


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _interface(name: str) -> bytes:
    return name.encode().ljust(IFNAMSIZ, b"\0")


def _host_order(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)
