"""The packet filter by nf_tables messages: read what is there, replace ours in one transaction.

Rules travel with their expressions as bytes: those of ours come from `qorch_net.expressions`, those
of networks that stay as they are go back to the kernel as they came.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFPROTO_INET,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETSETELEM,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
    NFTSocket,
)

from qorch_net.attributes import get_text, split_attributes
from qorch_net.errors import NetError
from qorch_net.netlink.nft_messages import (
    DISPATCH,
    HOOKS,
    NFPROTO_BRIDGE,
    Batch,
    Message,
    make_chain,
    make_guard,
    make_guard_table,
    make_rule,
    make_table,
    remove_guard,
    remove_jump,
    remove_rules,
    remove_table,
)
from qorch_net.netlink.raw import RawNft
from qorch_net.rules import (
    GUARD_CHAIN,
    GUARDS,
    RESTORE,
    TABLE_PREFIX,
    Chain,
    GuardChain,
    KernelRule,
    Table,
    find_guard,
    make_table_name,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

FAMILIES: Final = {1: "inet", 2: "ip", 10: "ip6"}  # NFPROTO_*
# linux/netfilter/nf_tables.h: NFTA_*
_NAME_OF_TABLE: Final = 1
_TABLE_OF_CHAIN, _NAME_OF_CHAIN, _HOOK, _POLICY, _TYPE = 1, 3, 4, 5, 7
_HOOKNUM, _PRIORITY = 1, 2
_TABLE_OF_RULE, _CHAIN_OF_RULE, EXPRESSIONS, _USERDATA = 1, 2, 4, 7
_TABLE_OF_SET, _NAME_OF_SET, _ELEMENTS = 1, 2, 3
_KINDS: Final = (NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSETELEM)


@attrs.frozen(kw_only=True)
class Ours:
    """An owner's rules: the table of the networks and the chains of guarded taps."""

    table: Table | None = None
    guards: frozenset[GuardChain] = frozenset()


@attrs.frozen(kw_only=True)
class Ruleset:
    """What the packet filter of this network namespace holds, as an owner sees it.

    `ours`: that owner's, its guards without their rules. `notes`: what other qorch owners, our
    neighbours, will put back. `routers`: tables of others that filter what is
    forwarded or translate what leaves.
    """

    owner: str
    ours: Ours
    notes: frozenset[str]
    routers: tuple[str, ...]


def find_ruleset(owner: str, nft: Any = None) -> Ruleset:
    """Look at the packet filter of the calling thread's network namespace, by an open socket."""
    name = make_table_name(owner)
    with _use(nft) as opened:
        tables = [
            (message["nfgen_family"], message.get_text(_NAME_OF_TABLE))
            for message in dump(opened, RawNft(), NFT_MSG_GETTABLE)
        ]
        chains = dump(opened, RawNft(), NFT_MSG_GETCHAIN)
        mine = (NFPROTO_INET, name) in tables
        rules = _find_rules(opened, NFPROTO_INET, name) if mine else ()
    own = [chain for chain in chains if _get_table(chain) == (NFPROTO_INET, name)]
    guards = [
        find_guard(_get_name(chain))
        for chain in chains
        if _get_table(chain) == (NFPROTO_BRIDGE, name)
    ]
    neighbours = {
        table
        for family, table in tables
        if family == NFPROTO_INET and table.startswith(TABLE_PREFIX) and table != name
    }
    return Ruleset(
        owner=owner,
        ours=Ours(
            table=_make_table(own, rules) if mine else None,
            guards=frozenset(guard for guard in guards if guard),
        ),
        notes=frozenset(
            _get_name(chain)
            for chain in chains
            if _get_name(chain).startswith(RESTORE) and _get_table(chain)[1] in neighbours
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


def find_guards(owner: str, wanted: Collection[GuardChain]) -> frozenset[GuardChain]:
    """Find the chains of these guards, with their rules, to be put back."""
    name = make_table_name(owner)
    found = {guard.name: guard for guard in wanted}
    if not found:
        return frozenset()
    with open_nft() as nft:
        rules = _find_rules(nft, NFPROTO_BRIDGE, name)
    return frozenset(
        attrs.evolve(guard, rules=tuple(rule for rule in rules if rule.chain == guard.name))
        for guard in found.values()
    )


def are_guards_sound(owner: str, guards: Collection[GuardChain]) -> bool:
    """Whether exactly these guards are there, each with its rules, and frames come by them."""
    name = make_table_name(owner)
    with open_nft() as nft:
        tables = dump(nft, RawNft(), NFT_MSG_GETTABLE, NFPROTO_BRIDGE)
        if not any(table.get_text(_NAME_OF_TABLE) == name for table in tables):
            return not guards
        rules = _find_rules(nft, NFPROTO_BRIDGE, name)
        request = RawNft()
        request["attrs"] = [
            [str(number), f"{text}\0".encode()]
            for number, text in ((_TABLE_OF_SET, name), (_NAME_OF_SET, GUARDS))
        ]
        try:
            messages = dump(nft, request, NFT_MSG_GETSETELEM, NFPROTO_BRIDGE)
        except NetlinkError:
            return False  # there is no such map
    elements = b"".join(x.get_bytes(_ELEMENTS) or b"" for x in messages)
    comments = sorted((rule.chain, rule.comment) for rule in rules)
    wanted = [(rule.chain, rule.comment) for guard in guards for rule in guard.rules]
    dispatch = (GUARD_CHAIN.name, DISPATCH)
    return comments == sorted([*wanted, dispatch]) and all(
        f"{guard.name}\0".encode() in elements for guard in guards
    )


def replace_rules(owner: str, old: Ours, new: Ours, nft: Any = None) -> None:
    """Put the rules `new` in the place of `old`, all in one transaction.

    Chains that stay are kept and only their rules replaced: removing a base chain takes the kernel
    more than 10 ms.
    """
    name = make_table_name(owner)
    messages = [*_replace_table(name, old.table, new.table)]
    messages += _replace_guards(name, old.guards, new.guards)
    _send(messages, nft)


def rebuild_guards(owner: str, guards: Collection[GuardChain]) -> None:
    """Make the bridge table anew, whatever is left of it."""
    name = make_table_name(owner)
    with open_nft() as nft:
        tables = dump(nft, RawNft(), NFT_MSG_GETTABLE, NFPROTO_BRIDGE)
    there = any(table.get_text(_NAME_OF_TABLE) == name for table in tables)
    remove = [remove_table(name, NFPROTO_BRIDGE)] if there else []
    _send([*remove, *_replace_guards(name, (), guards)])


def _replace_table(name: str, old: Table | None, new: Table | None) -> Iterator[Message]:
    if old == new:
        return
    if old and new and _has_chains_of(old, new):
        yield remove_rules(name)
    elif old:
        yield remove_table(name)
    if new:
        yield make_table(name)
        yield from (make_chain(name, chain) for chain in sorted(new.chains, key=lambda c: c.name))
        yield from (make_chain(name, Chain(name=note)) for note in sorted(new.notes))
        yield from (make_rule(name, rule) for rule in new.rules)


def _replace_guards(
    name: str, old: Collection[GuardChain], new: Collection[GuardChain]
) -> Iterator[Message]:
    kept = {guard.name for guard in old} & {guard.name for guard in new}
    if old and not new:
        yield remove_table(name, NFPROTO_BRIDGE)
        return
    if new and not old:
        yield from make_guard_table(name)
    gone = [guard for guard in old if guard.name not in kept]
    yield from (remove_jump(name, guard) for guard in gone)
    for guard in sorted(new, key=lambda guard: guard.name):
        if guard.name not in kept:
            yield from make_guard(name, guard)
    yield from (remove_guard(name, guard) for guard in gone)


def _send(messages: list[Message], nft: Any = None) -> None:
    if messages:
        with _use(nft) as opened:
            opened.nlm_request_batch([Batch(messages)])


@contextmanager
def _use(nft: Any) -> Iterator[Any]:
    """Use a socket that is open already, or one for this purpose: opening one takes 1 ms."""
    with nullcontext(nft) if nft is not None else open_nft() as opened:
        yield opened


def _has_chains_of(old: Table, new: Table) -> bool:
    return old.chains == new.chains and old.notes <= new.notes


@contextmanager
def open_nft() -> Iterator[Any]:
    """Open nf_tables in the calling thread's network namespace; errors come out as NetError."""
    try:
        with NFTSocket(nfgen_family=0) as nft:
            nft.register_policy({NFNL_SUBSYS_NFTABLES << 8 | kind: RawNft for kind in _KINDS})
            yield nft
    except NetlinkError as error:
        raise NetError(
            f"the kernel's packet filter refuses: {error.args[1]}",
            "nf_tables must be in the kernel, with inet family and NAT (modprobe nf_tables)",
        ) from error


def dump(nft: Any, request: Any, kind: int, family: int = 0) -> list[Any]:
    """Read everything of a kind; family 0 is all of them."""
    request["nfgen_family"] = family
    request["header"].update(
        type=NFNL_SUBSYS_NFTABLES << 8 | kind, flags=NLM_F_REQUEST | NLM_F_DUMP
    )
    return list(nft.nlm_request_batch([request]))


def _find_rules(nft: Any, family: int, table: str) -> tuple[KernelRule, ...]:
    request = RawNft()
    request["attrs"] = [[str(_TABLE_OF_RULE), f"{table}\0".encode()]]
    return tuple(
        KernelRule(
            chain=message.get_text(_CHAIN_OF_RULE),
            comment=get_comment(message),
            expressions=message.get_bytes(EXPRESSIONS) or b"",
        )
        for message in dump(nft, request, NFT_MSG_GETRULE, family)
        if message.get_text(_TABLE_OF_RULE) == table
    )


def _make_table(chains: list[Any], rules: tuple[KernelRule, ...]) -> Table:
    return Table(
        rules=rules,
        notes=frozenset(x for x in map(_get_name, chains) if x.startswith(RESTORE)),
        chains=frozenset(
            Chain(
                name=_get_name(chain),
                type=chain.get_text(_TYPE) or "",
                hook=get_hook(chain),
                priority=_get_priority(chain),
            )
            for chain in chains
            if not _get_name(chain).startswith(RESTORE)
        ),
    )


def get_place(message: Any) -> tuple[int, str, str]:
    """Family, table and chain of a chain, or of a rule."""
    kind = message["header"]["type"] & 0xFF
    chain = _NAME_OF_CHAIN if kind == NFT_MSG_NEWCHAIN else _CHAIN_OF_RULE
    table = message.get_text(_TABLE_OF_CHAIN)  # of a rule, too
    return message["nfgen_family"], table, message.get_text(chain)


def get_hook(chain: Any) -> str:
    """Where a base chain is hooked in; empty for others."""
    number = chain.get_nested(_HOOK).get(_HOOKNUM)
    index = int.from_bytes(number) if number else len(HOOKS)
    return HOOKS[index] if index < len(HOOKS) else ""


def get_policy(chain: Any) -> int | None:
    """What becomes of a packet at the end of a base chain: NF_DROP or NF_ACCEPT."""
    policy = chain.get_bytes(_POLICY)
    return int.from_bytes(policy) if policy else None


def _get_table(chain: Any) -> tuple[int, str]:
    return get_place(chain)[:2]


def _get_name(chain: Any) -> str:
    return get_place(chain)[2]


def _get_priority(chain: Any) -> int:
    return int.from_bytes(chain.get_nested(_HOOK).get(_PRIORITY, b""), signed=True)


def _is_router(chain: Any) -> bool:
    nat = chain.get_text(_TYPE) == "nat"
    return get_hook(chain) == "forward" or (get_hook(chain) == "postrouting" and nat)


def get_comment(rule: Any) -> str:
    """What a rule is called."""
    # Type 0 (NFTNL_UDATA_RULE_COMMENT), length, text, NUL: libnftnl/udata.h.
    userdata = rule.get_bytes(_USERDATA) or b""
    return userdata[2:].rstrip(b"\0").decode(errors="replace") if userdata[:1] == b"\0" else ""


def parse_expressions(expressions: bytes) -> Iterator[tuple[str, bytes]]:
    """The names and data of a rule's expressions."""
    for _, element in split_attributes(expressions):
        parts = dict(split_attributes(element))
        yield get_text(parts.get(1, b"")) or "", parts.get(2, b"")
