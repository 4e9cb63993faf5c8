"""Networks: make them be as planned, remove them, tidy up after somebody who was killed.

Every step that touches the host has a name, told to `report` before it is done, and an undo: if a
step fails, or `report` raises, what this call did is undone in reverse. What is right already is
neither touched nor reported.

The order of the steps is the order in which a SIGKILL in between does the least harm: first the
rules with the note that forwarding was off, then forwarding, then the bridge with its mark, then
dnsmasq. Removal goes the other way. Whatever half of it exists, both find it by its mark.

Of several qorch owners in one network namespace the last one to leave switches forwarding off
again. So the calls of all of them are serialised by a lock on the namespace itself.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from qorch_net.check import check_network
from qorch_net.dnsmasq import (
    Service,
    find_program,
    is_sound,
    make_files,
    make_loaded,
    pick_user,
)
from qorch_net.errors import NetError
from qorch_net.filter import (
    Kept,
    ensure_forwarding,
    ensure_rules,
    remove_all,
    remove_rules,
    repair_rules,
)
from qorch_net.forwarding import find_needed
from qorch_net.interfaces import (
    ensure_interfaces,
    find_ours,
    find_related,
    remove_interfaces,
)
from qorch_net.netlink.links import open_links
from qorch_net.netlink.nft import find_ruleset, open_nft
from qorch_net.notes import find_notes
from qorch_net.plan import Mark
from qorch_net.probe import find_owned, look
from qorch_net.process import CAP_NET_ADMIN, Search, has_capability, stop_processes, stopping
from qorch_net.steps import ignore, undoing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from qorch_net.dnsmasq import Files
    from qorch_net.plan import NetworkPlan
    from qorch_net.process import Process
    from qorch_net.steps import Report, Undo

ENSURE_STEPS: Final = ("rules", "forwarding", "bridge", "files", "dnsmasq")
REMOVE_STEPS: Final = ("dnsmasq", "bridge", "forwarding", "rules", "files")
# Those of networks that the host has no part in.
ENSURE_UPLINK_STEPS: Final = ("bridge", "addresses", "routes", "uplink")
REMOVE_UPLINK_STEPS: Final = ("addresses", "routes", "bridge")
ENSURE_TRUNK_STEPS: Final = (*ENSURE_UPLINK_STEPS, "trunk")
ENSURE_VLAN_STEPS: Final = ("bridge", "vlan")
REMOVE_VLAN_STEPS: Final = ("vlan", "bridge")


def ensure_network(
    plan: NetworkPlan,
    *,
    run_dir: Path,
    dnsmasq: Path | str = "dnsmasq",
    report: Report = ignore,
) -> None:
    """Make the network be as planned: create what is missing, correct what differs.

    dnsmasq's files go into `run_dir/NAME`; `run_dir` must exist. Raises NetError before anything is
    changed if the plan does not fit the host, and with everything undone if a step fails.
    """
    _check_privilege()
    service = Service(mark=plan.mark, directory=run_dir.absolute() / plan.name)
    if plan.mode.is_served:
        service = attrs.evolve(service, program=find_program(dnsmasq))
    if not run_dir.is_dir():
        raise NetError(f"there is no directory {run_dir}", "make it first")
    with _locked() as lock, open_links() as links, undoing() as undo:
        host = look(links, find_related(plan, links))
        check_network(plan, host)
        for switch in find_needed(plan):
            switch.check()
        notes = ensure_rules(plan, find_notes(host.links), report, undo)
        ensure_forwarding(plan, report, undo)
        ensure_interfaces(plan, host, notes, links, report, undo)
        if plan.mode.is_served:
            _ensure_dnsmasq(plan, service, lock, report, undo)


def remove_network(name: str, *, owner: str, run_dir: Path, report: Report = ignore) -> None:
    """Remove whatever exists of a network, found by its mark. Taps on its bridge stay."""
    _check_privilege()
    mark = Mark(owner, f"network/{name}")
    with _locked():
        search = Search(owner)
        running = [process for process in search.find_new() if process.mark == mark]
        if running:
            report("dnsmasq")
        with open_links() as links, open_nft() as nft:
            with stopping(mark, running, search):  # meanwhile the kernel is read
                found = find_ours(links)
                ruleset = find_ruleset(owner, nft)
            kept = Kept(
                ours=find_notes(x for x in found if x.mark and x.mark.owner == owner),
                theirs=find_notes(x for x in found if x.mark and x.mark.owner != owner),
            )
            left = remove_interfaces(mark, found, links, report)
            remove_rules(name, ruleset, nft, bridges_left=bool(left), kept=kept, report=report)
        service = Service(mark=mark, directory=run_dir.absolute() / name)
        if service.directory.is_dir():
            report("files")
            service.remove_files()


@attrs.frozen
class Repair:
    """What was not right, and the notes of what is to be put back in the end."""

    done: tuple[str, ...]
    notes: frozenset[str]


def apply_rules(
    owner: str, plans: Collection[NetworkPlan], *, notes: Collection[str] = ()
) -> Repair:
    """Make the owner's tables hold the rules of exactly these networks. Without plans they go.

    For repair, where somebody else flushed them; `notes` are those of the last call. Does nothing
    where all is right.
    """
    _check_privilege()
    with _locked():
        if plans:
            return Repair(*repair_rules(owner, plans, frozenset(notes)))
        remove_all(find_ruleset(owner), ignore)
        return Repair((), frozenset())


def remove_orphans(
    owner: str, *, keep: Collection[str], run_dir: Path, report: Report = ignore
) -> tuple[str, ...]:
    """Remove the networks of which something exists and that are not in `keep`; give their names.

    Taps are left alone: they end with the process that holds them.
    """
    _check_privilege()
    directories = {path.name for path in run_dir.iterdir() if path.is_dir()}
    owned = find_owned(owner)
    orphans = tuple(sorted((owned.networks | directories) - set(keep)))
    for name in orphans:
        remove_network(name, owner=owner, run_dir=run_dir, report=report)
    if owned.table and not keep:
        apply_rules(owner, ())
    return orphans


def _check_privilege() -> None:
    if not has_capability(CAP_NET_ADMIN):
        raise NetError(
            "not allowed to change the host's network",
            "run as root, or with CAP_NET_ADMIN in a network namespace of your own",
        )


@contextmanager
def _locked() -> Iterator[int]:
    """Hold the lock of this network namespace; the kernel releases it with the process.

    A dnsmasq on its way between fork and exec inherits it: it has no mark yet, and whoever comes
    after a SIGKILL at that moment waits until it has one. What the kernel refuses meanwhile, for
    a full disk, say, is a NetError.
    """
    try:
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(namespace, fcntl.LOCK_EX)
            yield namespace
        finally:
            os.close(namespace)
    except OSError as error:
        raise NetError.from_os_error(error) from error


def _ensure_dnsmasq(
    plan: NetworkPlan, service: Service, lock: int, report: Report, undo: Undo
) -> None:
    files = make_files(plan, service.directory, pick_user(service.directory))
    before = service.find_files()
    # Without files there is none to be found: they come before it and go after it.
    running = service.find_processes() if before else []
    if before == {**files, **make_loaded(files)} and is_sound(running):
        return
    if any(before.get(name) != content for name, content in files.items()):
        report("files")
        undo.append(partial(service.write_files, before))
        service.write_files({**before, **files})
    report("dnsmasq")
    undo.append(partial(_put_back, service, before, running, lock))
    service.run(plan.leases, running, lock)


def _put_back(service: Service, before: Files, ran: list[Process], lock: int) -> None:
    stop_processes(service.mark)
    service.write_files(before)
    if ran:
        service.run((), [], lock)
