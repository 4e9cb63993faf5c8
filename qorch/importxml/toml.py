"""Plain data as a TOML document that is pleasant to read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_WIDTH = 88  # an inline table is no longer than that
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def write_document(tables: Mapping[str, Any]) -> str:
    """The text of a document, without comments."""
    return "\n".join(_table((), tables)).strip("\n") + "\n"


def write_comment(text: str) -> list[str]:
    """A text as lines of comment."""
    return [f"# {_printable(line)}".rstrip() for line in text.splitlines() or [""]]


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    """A table's own keys, then the tables in it."""
    inner = {}
    for key, value in table.items():
        if _is_tables(value) and not _fits(path, key, value):
            inner[key] = value
        else:
            yield f"{_key(key)} = {write_value(value)}"
    for key, value in inner.items():
        below = (*path, key)
        name = ".".join(map(_key, below))
        if isinstance(value, Mapping):
            body = list(_table(below, value))
            if not body or body[0]:  # or it has tables only, whose headers say it all
                yield from ("", f"[{name}]")
            yield from body
        else:
            for item in value:
                yield from ("", f"[[{name}]]")
                yield from _table(below, item)


def _is_tables(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(item, Mapping) for item in items)


def _fits(path: tuple[str, ...], key: str, value: object) -> bool:
    """Whether a table is small enough to stand in a line; a document's own tables never do."""
    if len(path) < 2 or (isinstance(value, list) and _is_tables(value) and len(path) == 2):
        return False
    if isinstance(value, Mapping) and len(path) == 2 and len(value) > 3:
        return False
    return len(key) + len(write_value(value)) < _WIDTH


def write_value(value: object) -> str:
    """A value in one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case Mapping():
            inside = ", ".join(f"{_key(key)} = {write_value(item)}" for key, item in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case str():
            return _string(value)
        case Iterable():
            return f"[{', '.join(write_value(item) for item in value)}]"
    raise TypeError(f"{value!r} has no form in TOML")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or _escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x20 or code == 0x7F else char


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in text)
