"""What a person should know about a plan."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Note:
    """Something a person should know about a plan."""

    kind: str
    name: str
    message: str
