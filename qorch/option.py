"""How values become QEMU option words: the one place that knows QEMU's syntax."""

from __future__ import annotations

import enum
import json
from pathlib import PurePath
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

Properties = dict[str, object]


def properties(switch: attrs.AttrsInstance) -> Properties:
    """The fields of a switch class under QEMU's names: `_` is `-`, None is left out."""
    return {
        field.metadata.get("qemu", field.name.replace("_", "-")): plain(value)
        for field in attrs.fields(type(switch))
        if (value := getattr(switch, field.name)) is not None
    }


def plain(value: object) -> object:  # noqa: PLR0911  one return per kind
    """The JSON form of a value, as QMP and QEMU's JSON options take it."""
    match value:
        case None | bool() | float():
            return value
        case int():
            return int(value)
        case enum.Enum():
            return value.value
        case PurePath() | str():
            return str(value)
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case _:
            return str(value)


def json_word(values: Mapping[str, object]) -> str:
    """The JSON form that -blockdev, -device, -netdev and -object take: needs no quoting."""
    return json.dumps(plain(dict(values)))


def key_values(*heads: str, **values: object) -> str:
    """The classic form `head,key=value`, from names in which `-` is written `_`."""
    return option_word(*heads, {key.replace("_", "-"): value for key, value in values.items()})


def option_word(*parts: str | Mapping[str, object]) -> str:
    """The classic form `head,key=value`: booleans are on and off, commas are doubled.

    QEMU's option parser reads `,,` as one comma (util/keyval.c, util/qemu-option.c).
    """
    words: list[str] = []
    for part in parts:
        if isinstance(part, str):
            words.append(part.replace(",", ",,"))
        else:
            words += [f"{key}={_text(value)}" for key, value in part.items() if value is not None]
    return ",".join(words)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(plain(value)).replace(",", ",,")
