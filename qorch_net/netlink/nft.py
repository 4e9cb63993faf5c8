"""The packet filter by nf_tables messages: read what is there, replace a table in one transaction.

Rules travel with their expressions as bytes: those of ours come from `qorch_net.expressions`, those
of networks that stay as they are go back to the kernel as they came.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFPROTO_INET,
    NFT_MSG_DELRULE,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    NFTSocket,
    nft_chain_msg,
    nft_rule_msg,
    nft_table_msg,
)

from qorch_net.errors import NetError
from qorch_net.expressions import make_expressions
from qorch_net.rules import (
    RESTORE_FORWARDING,
    TABLE_PREFIX,
    Chain,
    KernelRule,
    Rule,
    Table,
    make_table_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting")
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ACCEPT: Final = 1  # NF_ACCEPT, also as a chain's policy


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


def replace_table(owner: str, old: Table | None, new: Table | None) -> None:
    """Put the table `new` in the place of `old`, in one transaction; None: no table.

    Chains that stay are kept and only their rules replaced: removing a base chain takes the kernel
    more than 10 ms.
    """
    name = make_table_name(owner)
    messages = []
    if old and new and _has_chains_of(old, new):
        messages.append(_delete(nft_rule_msg(), name, NFT_MSG_DELRULE))
    elif old:
        messages.append(_delete(nft_table_msg(), name, NFT_MSG_DELTABLE))
    if new:
        messages.append(_create(nft_table_msg(), NFT_MSG_NEWTABLE, NAME=name))
        messages += [_chain(name, chain) for chain in sorted(new.chains, key=lambda c: c.name)]
        if new.restore_forwarding:
            messages.append(_chain(name, Chain(name=RESTORE_FORWARDING)))
        messages += [_rule(name, rule) for rule in new.rules]
    if messages:
        with _open_nft() as nft:
            nft.nlm_request_batch([_bracket(_BATCH_BEGIN), *messages, _bracket(_BATCH_END)])


def _has_chains_of(old: Table, new: Table) -> bool:
    return old.chains == new.chains and old.restore_forwarding <= new.restore_forwarding


@contextmanager
def _open_nft() -> Iterator[Any]:
    try:
        with NFTSocket(nfgen_family=0) as nft:
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


def _create(message: Any, kind: int, **attributes: object) -> Any:
    return _make_message(message, kind, NLM_F_CREATE | NLM_F_APPEND, attributes)


def _delete(message: Any, table: str, kind: int) -> Any:
    key = "NAME" if kind == NFT_MSG_DELTABLE else "TABLE"
    return _make_message(message, kind, 0, {key: table})


def _make_message(message: Any, kind: int, flags: int, attributes: dict[str, object]) -> Any:
    message["nfgen_family"] = NFPROTO_INET
    message["attrs"] = [[message.prefix + key, value] for key, value in attributes.items()]
    message["header"].update(
        type=NFNL_SUBSYS_NFTABLES << 8 | kind, flags=NLM_F_REQUEST | NLM_F_ACK | flags
    )
    return message


def _chain(table: str, chain: Chain) -> Any:
    base: dict[str, object] = {}
    if chain.hook:
        hook = [
            ["NFTA_HOOK_HOOKNUM", _HOOKS.index(chain.hook)],
            ["NFTA_HOOK_PRIORITY", chain.priority],
        ]
        base = {"TYPE": chain.type, "HOOK": {"attrs": hook}, "POLICY": _ACCEPT}
    return _create(nft_chain_msg(), NFT_MSG_NEWCHAIN, TABLE=table, NAME=chain.name, **base)


def _rule(table: str, rule: Rule | KernelRule) -> Any:
    comment = rule.comment.encode() + b"\0"
    return _create(
        _RawRule(),
        NFT_MSG_NEWRULE,
        TABLE=table,
        CHAIN=rule.chain,
        EXPRESSIONS=rule.expressions if isinstance(rule, KernelRule) else make_expressions(rule),
        USERDATA=bytes([0, len(comment)]) + comment,
    )
