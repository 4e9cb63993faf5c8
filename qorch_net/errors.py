"""What can go wrong with the host's network, in the user's words."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class NetError(Exception):
    """The root of qorch_net's errors: what is wrong, and what to do about it."""

    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.message
