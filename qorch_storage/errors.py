"""What can go wrong with storage, in the user's words."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class StorageError(Exception):
    """The root of qorch_storage's errors: what is wrong, and what to do about it."""

    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.message
