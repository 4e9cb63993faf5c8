"""Forwarding, host-wide: `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`.

A host that forwards IPv6 takes itself for a router and forgets the default route that it learned
from one (`accept_ra = 1` means: unless I forward). So that it stays connected, interfaces with such
routes are told to listen all the same before forwarding is switched on: `accept_ra = 2`.

What was switched is noted by empty chains in our table, whose names say what to put back.
/proc/sys/net shows the network namespace of the thread that opens it.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qorch_net.errors import NetError
from qorch_net.plan import Mode
from qorch_net.rules import RESTORE_ACCEPT_RA, RESTORE_FORWARDING, RESTORE_FORWARDING6

if TYPE_CHECKING:
    from collections.abc import Collection

    from qorch_net.plan import NetworkPlan

_CONF6: Final = Path("/proc/sys/net/ipv6/conf")
_ROUTES6: Final = Path("/proc/thread-self/net/ipv6_route")
_RTF_ADDRCONF: Final = 0x40000  # linux/ipv6_route.h: learned from a router
_LEGACY_TABLES: Final = Path("/proc/thread-self/net/ip_tables_names")


class Switch(enum.Enum):
    """A switch, and the note that says it was off."""

    IPV4 = ("IPv4", Path("/proc/sys/net/ipv4/ip_forward"), RESTORE_FORWARDING)
    IPV6 = ("IPv6", _CONF6 / "all/forwarding", RESTORE_FORWARDING6)

    def __init__(self, family: str, path: Path, note: str) -> None:
        self.family = family
        self.path = path
        self.note = note

    @property
    def is_on(self) -> bool:
        """Whether the host forwards packets of this family."""
        try:
            return self.path.read_text().strip() == "1"
        except FileNotFoundError:  # a kernel without IPv6
            return False

    def check(self) -> None:
        """Raise NetError if it is off and cannot be switched on."""
        if not self.is_on and not os.access(self.path, os.W_OK):
            setting = ".".join(self.path.parts[3:])
            raise NetError(
                f"{self.family} forwarding is off and {self.path} cannot be written",
                f"mount /proc/sys writable, or set {setting} = 1 beforehand",
            )

    def set(self, *, on: bool) -> None:
        """Switch it. Raises NetError."""
        _write(self.path, "1" if on else "0")


def find_needed(plan: NetworkPlan) -> tuple[Switch, ...]:
    """Find what must be on for a network."""
    if not plan.mode.is_served or (plan.mode is Mode.ISOLATED and not plan.reach):
        return ()
    gateways = ((Switch.IPV4, plan.gateway), (Switch.IPV6, plan.gateway6))
    return tuple(switch for switch, gateway in gateways if gateway)


def find_forwarding() -> bool:
    """Whether the host forwards IPv4 packets."""
    return Switch.IPV4.is_on


def make_notes(switches: Collection[Switch]) -> frozenset[str]:
    """Look at what would be switched, and make the notes of what it was before."""
    off = [switch for switch in switches if not switch.is_on]
    listeners = _find_listeners() if Switch.IPV6 in off else []
    return frozenset(
        [*(switch.note for switch in off), *(f"{RESTORE_ACCEPT_RA}{x}" for x in listeners)]
    )


def switch_on(notes: Collection[str]) -> None:
    """Switch on what these notes say was off."""
    for note in notes:
        if note.startswith(RESTORE_ACCEPT_RA):
            _set_accept_ra(note.removeprefix(RESTORE_ACCEPT_RA), "2")
    for switch in Switch:
        if switch.note in notes:
            switch.set(on=True)


def put_back(notes: Collection[str]) -> None:
    """Make everything be as it was before."""
    for switch in Switch:
        if switch.note in notes and switch.is_on:
            switch.set(on=False)
    for note in notes:
        if note.startswith(RESTORE_ACCEPT_RA):
            _set_accept_ra(note.removeprefix(RESTORE_ACCEPT_RA), "1")


def has_legacy_nat() -> bool:
    """Whether somebody translates addresses through the old iptables, unseen by nf_tables."""
    try:
        return "nat" in _LEGACY_TABLES.read_text().split()
    except OSError:
        return False


def _find_listeners() -> list[str]:
    """Find the interfaces whose routes come from a router and would go with its next word."""
    try:
        lines = [line.split() for line in _ROUTES6.read_text().splitlines()]
    except FileNotFoundError:
        return []
    learned = {line[9] for line in lines if int(line[8], 16) & _RTF_ADDRCONF}
    return sorted(x for x in learned if (_CONF6 / x / "accept_ra").read_text().strip() == "1")


def _set_accept_ra(interface: str, value: str) -> None:
    path = _CONF6 / interface / "accept_ra"
    if path.exists():
        _write(path, value)


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise NetError(
            f"cannot write {path}: {error.strerror}", "mount /proc/sys writable"
        ) from error
