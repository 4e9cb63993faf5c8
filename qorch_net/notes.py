"""What the host was like before our networks, where a flush of the packet filter leaves it.

The notes of what was switched on stand in our table, as names of empty chains, and in the aliases
of our bridges, behind the mark. So they are lost only where somebody removes both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qorch_net.rules import RESTORE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from qorch_net.host import Link
    from qorch_net.plan import Mark

_SIZE: Final = 255  # IFALIASZ less the final NUL


def find_notes(links: Iterable[Link]) -> frozenset[str]:
    """Find the notes on those that are ours or another qorch's."""
    return frozenset(
        word
        for link in links
        if link.mark
        for word in (link.alias or "").split(" ")[1:]
        if word.startswith(RESTORE)
    )


def make_alias(mark: Mark, notes: Collection[str]) -> str:
    """Make the alias of a bridge, with as many notes as there is room for."""
    alias = mark.alias
    for note in sorted(notes, reverse=True):  # the switches, then single interfaces
        if len(longer := f"{alias} {note}") <= _SIZE:
            alias = longer
    return alias
