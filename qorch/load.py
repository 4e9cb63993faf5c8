"""vm.toml to Spec: every problem of a document at once, each with its path."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)

from qorch.check import find_problems
from qorch.convert import SHORT_KEYS, get_converter, toml_name
from qorch.errors import InputError, Problem
from qorch.spec import Spec

T = TypeVar("T")


def load_text(text: str, directory: Path, file: str = "vm.toml") -> Spec:
    """Read a document; relative paths in it start at `directory`, `file` is its name in messages.

    Raises InputError with every problem found, and for a text that describes nothing: it is not the
    file that was meant. `load_document` takes an empty document.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = Problem(file, f"not TOML: {error}", "strings need quotes, tables a [header]")
        raise InputError.from_problems([problem]) from None
    spec = load_document(document, directory)
    if spec == Spec():
        problem = Problem(file, "describes nothing", "a machine is a table [vm.NAME]")
        raise InputError.from_problems([problem])
    return spec


def load_document(document: Mapping[str, Any], directory: Path) -> Spec:
    """Read a document that is already parsed. Raises InputError with every problem found."""
    try:
        spec: Spec = get_converter().structure(document, Spec)
    except BaseValidationError as error:
        raise InputError.from_problems(list(_problems(error))) from None
    spec = resolve_paths(spec, directory)
    if problems := find_problems(spec):
        raise InputError.from_problems(problems)
    return spec


def resolve_paths(value: T, directory: Path) -> T:
    """The same value with every relative path in it made absolute, starting at `directory`."""
    resolved: Any = value
    match value:
        case Path():
            resolved = directory / value.expanduser()
        case tuple():
            resolved = tuple(resolve_paths(item, directory) for item in value)
        case Mapping():
            resolved = {key: resolve_paths(item, directory) for key, item in value.items()}
        case _ if attrs.has(type(value)):
            fields: dict[str, Any] = attrs.asdict(value, recurse=False)  # type: ignore[arg-type]
            resolved = type(value)(**{k: resolve_paths(v, directory) for k, v in fields.items()})
    return resolved  # type: ignore[no-any-return]


def _problems(error: Exception, path: str = "") -> Iterator[Problem]:
    """Walk cattrs' tree of errors; its notes say which attribute or index each one is about."""
    if isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield _unknown_key(key, path, error.cl)
    elif isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, path + _step(inner, error.cl))
    elif isinstance(error, KeyError):
        key = str(error.args[0]) if error.args else "…"
        yield Problem(path.removeprefix("."), "is missing", f"{key} = …")
    else:
        hint = getattr(error, "hint", None)
        yield Problem(path.removeprefix("."), str(error), hint)


def _step(error: BaseException, within: Any) -> str:
    """The part of the path that an error's note adds: `.key`, `[0]` or nothing."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return "." + toml_name(getattr(attrs.fields(within), note.name))
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]" if isinstance(note.index, int) else f".{note.index}"
    return ""


def _unknown_key(key: str, path: str, within: type) -> Problem:
    known = [toml_name(field) for field in attrs.fields(within)]
    known += SHORT_KEYS.get(within.__name__, {})
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
    return Problem(f"{path}.{key}".removeprefix("."), "unknown key", hint)
