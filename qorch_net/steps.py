"""Steps that change the host: named before they are taken, undone in reverse if one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qorch_net.errors import NetError

Report = Callable[[str], None]
Undo = list[Callable[[], None]]


def ignore(_step: str) -> None:
    """Report to nobody."""


@contextmanager
def undoing() -> Iterator[Undo]:
    """Collect what undoes the steps, and do it in reverse if one fails.

    What cannot be undone is noted on the error, which stays the one that is raised.
    """
    undo: Undo = []
    try:
        yield undo
    except BaseException as error:
        for step in reversed(undo):
            try:
                step()
            except (NetError, OSError) as failure:
                error.add_note(f"not undone: {failure}")
        raise
