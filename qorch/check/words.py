"""Words of QEMU's: which one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def nearest(wrong: str, known: Collection[str]) -> str:
    """A hint with the nearest of the words there are, or all of them."""
    found = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}?" if found else f"one of {', '.join(known)}"
