"""Request bodies: bounded, JSON, and of the types that the API's description says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio
from starlette.exceptions import HTTPException

from qorch.errors import InputError, Problem

if TYPE_CHECKING:
    from starlette.requests import Request

LARGEST = 1 << 20
PATIENCE = 30.0  # seconds for a body to arrive

_REQUIRED = object()
_LONGEST_WAIT = 10**9  # seconds


@attrs.frozen
class Field:
    """One key of a body: `read` returns its value or raises ValueError."""

    read: Callable[[object], object]
    default: object = _REQUIRED


def read_text(value: object) -> str:
    """Text that can be written to a file."""
    if not isinstance(value, str):
        raise ValueError("is not a string")  # noqa: TRY004  wrong input, not a wrong call
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return value


def read_directory(value: object) -> str:
    """An absolute path."""
    directory = read_text(value)
    if not os.path.isabs(directory) or "\0" in directory:  # noqa: PTH117  no file is touched
        raise ValueError("is not an absolute path")
    return directory


def read_flag(value: object) -> bool:
    """Either true or false, nothing that passes for it."""
    if not isinstance(value, bool):
        raise ValueError("is not true or false")  # noqa: TRY004
    return value


def read_seconds(value: object) -> float | None:
    """A number of seconds, or null."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is not a number of seconds")  # noqa: TRY004
    if not 0 <= value <= _LONGEST_WAIT:
        raise ValueError("is no reasonable number of seconds")
    return float(value)


async def read_fields(request: Request, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Read the body; an empty one stands for {}. Raises InputError with every problem found."""
    data = await _read_body(request)
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise InputError("the body is not a JSON object")
    return read_values(body, fields)


def read_values(body: Mapping[str, object], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Read what is given as what it shall be. Raises InputError with every problem found."""
    problems = [
        Problem(key, "is not known here", f"known are {', '.join(fields) or 'no keys'}")
        for key in body
        if key not in fields
    ]
    values = {}
    for name, field in fields.items():
        try:
            values[name] = _read_field(field, body.get(name, field.default))
        except ValueError as error:
            problems.append(Problem(name, str(error), getattr(error, "hint", None)))
    if problems:
        raise InputError.from_problems(problems)
    return values


def _read_field(field: Field, value: object) -> object:
    if value is _REQUIRED:
        raise ValueError("is missing")
    return field.read(value)


async def receive_piece(request: Request) -> tuple[bytes, bool]:
    """Wait for a piece of the body, and tell whether more will follow.

    `Request.stream` would do, but it is a generator that nobody closes when reading stops early.
    """
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise HTTPException(400, "the client left before the end of the body")
    return message.get("body", b""), message.get("more_body", False)


async def _read_body(request: Request) -> bytes:
    data = bytearray()
    more = True
    with trio.move_on_after(PATIENCE):
        while more:
            piece, more = await receive_piece(request)
            data += piece
            if len(data) > LARGEST:
                raise HTTPException(413, f"the body is larger than {LARGEST >> 20} MiB")
        return bytes(data)
    raise HTTPException(408, f"the body did not arrive within {PATIENCE:g} seconds")
