"""Read others' nftables: which of their base chains stop what nothing lets through.

Chains that iptables-nft made are nftables, too. Those of the old iptables are in
`qorch_net.iptables`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETRULE,
)

from qorch_net.attributes import split_attributes
from qorch_net.foreign import ForeignChain, Kind
from qorch_net.netlink.nft import (
    EXPRESSIONS,
    FAMILIES,
    dump,
    get_hook,
    get_place,
    get_policy,
    open_nft,
    parse_expressions,
)
from qorch_net.netlink.raw import RawNft
from qorch_net.rules import TABLE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOOKS: Final = ("input", "forward")
_DROP: Final = 0  # NF_DROP
_ACCEPT: Final = 1
_PASSIVE: Final = {
    "counter",
    "log",
    "limit",
    "immediate",
    "reject",
    "target",
}  # that match every packet
_IPTABLES_CHAINS: Final = {"INPUT", "FORWARD"}


def find_foreign_chains() -> tuple[ForeignChain, ...]:
    """Find the base chains of others that drop or reject in the end, at input and forward."""
    with open_nft() as nft:
        chains = [x for x in dump(nft, RawNft(), NFT_MSG_GETCHAIN) if _is_foreign(x)]
        if not any(get_hook(chain) in _HOOKS for chain in chains):
            return ()
        rules = dump(nft, RawNft(), NFT_MSG_GETRULE)
    return tuple(
        found
        for chain in chains
        if get_hook(chain) in _HOOKS and (found := _judge(chain, chains, rules))
    )


def _is_foreign(chain: Any) -> bool:
    family, table, _ = get_place(chain)
    return family in FAMILIES and not table.startswith(TABLE_PREFIX)


def _judge(chain: Any, chains: list[Any], rules: list[Any]) -> ForeignChain | None:
    family, table, name = get_place(chain)
    theirs = [
        (get_place(rule)[2], list(parse_expressions(rule.get_bytes(EXPRESSIONS) or b"")))
        for rule in rules
        if get_place(rule)[:2] == (family, table)
    ]
    why = _find_reason(chain, [expressions for where, expressions in theirs if where == name])
    if why is None:
        return None
    others = {get_place(x)[2] for x in chains if get_place(x)[:2] == (family, table)}
    return ForeignChain(
        kind=_find_kind(table, name, others),
        family=FAMILIES[family],
        table=table,
        name=name,
        hook=get_hook(chain),
        why=why,
        accepts=frozenset(_find_accepted(expressions for _, expressions in theirs)),
    )


def _find_reason(chain: Any, rules: list[list[tuple[str, bytes]]]) -> str | None:
    for expressions in rules:
        if {name for name, _ in expressions} <= _PASSIVE and (end := _find_end(expressions)):
            return None if end == "accept" else end
    return "policy drop" if get_policy(chain) == _DROP else None


def _find_end(expressions: list[tuple[str, bytes]]) -> str | None:
    """What becomes of every packet here: accept, drop, reject; None: it goes on."""
    for name, data in expressions:
        if name == "reject" or (name == "target" and b"REJECT\0" in data):
            return "reject"
        verdict, _ = _get_verdict(data) if name == "immediate" else (None, "")
        if verdict in {_ACCEPT, _DROP}:
            return "drop" if verdict == _DROP else "accept"
    return None


def _find_accepted(rules: Iterator[list[tuple[str, bytes]]]) -> Iterator[str]:
    """Find the interfaces that rules compare with which accept, or go on to who trusts them."""
    for expressions in rules:
        verdicts = [_get_verdict(data) for name, data in expressions if name == "immediate"]
        if not any(number == _ACCEPT or "trusted" in chain for number, chain in verdicts):
            continue
        for name, data in expressions:
            value = dict(split_attributes(data)).get(3) if name == "cmp" else None
            text = dict(split_attributes(value or b"")).get(1, b"").rstrip(b"\0")
            if text and text.isascii():
                yield text.decode()


def _find_kind(table: str, name: str, chains: set[str]) -> Kind:
    if table.startswith("firewalld"):
        return Kind.FIREWALLD
    if any(chain.startswith(("ufw-", "ufw6-")) for chain in chains):
        return Kind.UFW
    if "DOCKER-USER" in chains:
        return Kind.DOCKER
    return Kind.IPTABLES if table == "filter" and name in _IPTABLES_CHAINS else Kind.NFT


def _get_verdict(data: bytes) -> tuple[int | None, str]:
    """The verdict of an immediate expression, None if it loads a value; to which chain it goes."""
    data = dict(split_attributes(data)).get(2, b"")  # NFTA_IMMEDIATE_DATA
    verdict = dict(split_attributes(dict(split_attributes(data)).get(2, b"")))  # NFTA_DATA_VERDICT
    code, chain = verdict.get(1, b""), verdict.get(2, b"").rstrip(b"\0")
    number = struct.unpack(">i", code)[0] if len(code) == 4 else None
    return number, chain.decode(errors="replace")
