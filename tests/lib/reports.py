"""What becomes of the progress that a verb reports."""

from __future__ import annotations


def ignore(_line: object) -> None:
    """Take no notice of it."""
