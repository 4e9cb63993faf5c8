"""The packet filter and forwarding of networks: put in place, taken away, repaired.

For the callers in `qorch_net.network`, who hold the lock of the network namespace.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from qorch_net.errors import NetError
from qorch_net.forwarding import (
    Switch,
    find_needed,
    has_legacy_nat,
    make_notes,
    put_back,
    switch_on,
)
from qorch_net.listeners import describe, find_listeners
from qorch_net.netlink.forwards import find_foreign_forwards
from qorch_net.netlink.nft import (
    Ours,
    are_guards_sound,
    find_guards,
    find_ruleset,
    open_nft,
    rebuild_guards,
    replace_rules,
)
from qorch_net.rules import Table, find_port_rules, make_guards, make_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qorch_net.netlink.nft import Ruleset
    from qorch_net.plan import NetworkPlan
    from qorch_net.rules import GuardChain

    Report = Callable[[str], None]
    Undo = list[Callable[[], None]]


@attrs.frozen(kw_only=True)
class Kept:
    """Notes that stand on bridges: an owner's, and those of its neighbours."""

    ours: frozenset[str] = frozenset()
    theirs: frozenset[str] = frozenset()


def ensure_rules(
    plan: NetworkPlan, kept: frozenset[str], report: Report, undo: Undo
) -> frozenset[str]:
    """Make a network's rules and guards be as planned, with the notes of what was switched.

    `kept` are those that stand elsewhere; all there are, are returned.
    """
    with open_nft() as nft:
        ruleset = find_ruleset(plan.owner, nft)
        old = ruleset.ours
        new = Ours(table=_plan_table(plan, ruleset, kept), guards=_plan_guards(plan, old))
        notes = new.table.notes if new.table else frozenset()
        if new.guards == old.guards and _is_like(new.table, old.table):
            return notes
        _check_ports(plan, old.table, nft)
        gone = find_guards(plan.owner, old.guards - new.guards)
        before = attrs.evolve(old, guards=gone | old.guards)
        report("rules")
        undo.append(partial(replace_rules, plan.owner, new, before))
        replace_rules(plan.owner, old, new, nft)
    return notes


def ensure_forwarding(plan: NetworkPlan, report: Report, undo: Undo) -> None:
    """Switch on what the network needs."""
    notes = make_notes(find_needed(plan))
    if notes:
        report("forwarding")
        undo.append(partial(put_back, notes))
        switch_on(notes)


def remove_rules(
    name: str, ruleset: Ruleset, nft: Any, *, bridges_left: bool, kept: Kept, report: Report
) -> None:
    """Remove a network's rules and guards; with the last network, all that is the owner's."""
    old = ruleset.ours
    left = frozenset(guard for guard in old.guards if guard.network != name)
    table = old.table.replace(name, ()) if old.table else None
    if not (bridges_left or left or (table and table.networks)):
        remove_all(ruleset, report, nft, kept)
    elif left != old.guards or (old.table and name in old.table.networks):
        report("rules")
        replace_rules(ruleset.owner, old, Ours(table=table, guards=left), nft)


def remove_all(ruleset: Ruleset, report: Report, nft: Any = None, kept: Kept | None = None) -> None:
    """Remove the owner's tables, and switch off again what was off and nobody needs now.

    Another owner that needs what we switched on has taken over the note of it when it came.
    """
    old, kept = ruleset.ours, kept or Kept()
    notes = (old.table.notes if old.table else frozenset()) | kept.ours
    notes -= ruleset.notes | kept.theirs
    needed = ruleset.routers or has_legacy_nat()
    if notes and not needed and any(switch.is_on for switch in Switch if switch.note in notes):
        report("forwarding")
        put_back(notes)
    if old != Ours():
        report("rules")
        replace_rules(ruleset.owner, old, Ours(), nft)


def repair_rules(
    owner: str, plans: Collection[NetworkPlan], notes: frozenset[str]
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Make the owner's tables hold exactly what these networks want; what was done, and the notes.

    `notes` are those that were there before: a flush takes them away, too.
    """
    done = []
    ruleset = find_ruleset(owner)
    old = ruleset.ours.table
    notes |= make_notes([x for plan in plans for x in find_needed(plan)])
    wanted = attrs.evolve(_adopt(ruleset, notes), rules=())
    for plan in sorted(plans, key=lambda plan: plan.name):
        wanted = wanted.replace(plan.name, make_rules(plan))
    if (wanted.networks or old) and not _is_like(wanted, old):
        replace_rules(owner, Ours(table=old), Ours(table=wanted))
        done.append("rules")
    guards = {guard for plan in plans for guard in make_guards(plan)}
    if not are_guards_sound(owner, guards):
        rebuild_guards(owner, guards)
        done.append("guards")
    for plan in plans:
        ensure_forwarding(plan, done.append, [])
    return tuple(dict.fromkeys(done)), wanted.notes


def _plan_table(plan: NetworkPlan, ruleset: Ruleset, kept: frozenset[str]) -> Table | None:
    rules, old = make_rules(plan), ruleset.ours.table
    if not rules and (old is None or plan.name not in old.networks):
        return old
    return _adopt(ruleset, make_notes(find_needed(plan)) | kept).replace(plan.name, rules)


def _adopt(ruleset: Ruleset, notes: frozenset[str]) -> Table:
    """Take the table as it is, with the duty to put back what falls to us."""
    table = ruleset.ours.table or Table()
    return attrs.evolve(table, notes=table.notes | ruleset.notes | notes)


def _check_ports(plan: NetworkPlan, table: Table | None, nft: Any) -> None:
    """Raise NetError if a port that is not forwarded yet would be taken from somebody."""
    there = {rule.comment for rule in table.rules} if table else set()
    fresh = {
        (forward.proto, forward.host_port + step, forward.address)
        for forward, rule, step in find_port_rules(plan)
        if rule.comment not in there
    }
    if not fresh:
        return
    listeners = find_listeners({(transport, port) for transport, port, _ in fresh})
    forwards = find_foreign_forwards(plan.owner, nft)
    for transport, port, address in sorted(fresh, key=str):
        found = [
            *(
                describe(x)
                for x in listeners
                if (transport, port) == (x.transport, x.port) and x.takes(address)
            ),
            *(f"{x} forwards it" for x in forwards if x.takes(transport, port, address)),
        ]
        if found:
            raise NetError(
                f"port {port}/{transport.value} of the host, which network {plan.name} is to"
                f" forward, is taken: {found[0]}",
                "choose another host_port, or an address that nobody listens on",
            )


def _plan_guards(plan: NetworkPlan, old: Ours) -> frozenset[GuardChain]:
    mine = frozenset(make_guards(plan))
    taps = {guard.tap for guard in mine}
    kept = (x for x in old.guards if x.network != plan.name and x.tap not in taps)
    return mine.union(kept)


def _is_like(new: Table | None, old: Table | None) -> bool:
    return new is old or (new is not None and old is not None and new.is_like(old))
