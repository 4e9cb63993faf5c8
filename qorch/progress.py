"""What a verb reports while it works."""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.frozen
class Progress:
    """A step about to touch the host or, with a message, a note for people."""

    kind: str
    name: str
    step: str = ""
    message: str = ""


Report = Callable[[Progress], None]


def ignore(_progress: Progress) -> None:
    """Report to nobody."""
