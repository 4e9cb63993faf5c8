"""Names in requests: what cannot be one never goes further."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from qorch.errors import NotFoundError
from qorch.units import Name

if TYPE_CHECKING:
    from starlette.requests import Request


def find_name(request: Request, kind: str = "machine", key: str = "name") -> str:
    """Find which machine, or other thing, is meant. Raises NotFoundError."""
    name = unquote(request.path_params[key])
    try:
        return Name.from_text(name)
    except ValueError:
        raise NotFoundError(f"there is no {kind} {name!r}") from None
