"""The JSON schema of vm.toml, made from the spec's classes: for editors and other programs."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

from qorch.convert import SHORT_FORMS, SHORT_KEYS, SWITCHES, make_plain, toml_name
from qorch.spec import MachineType, Spec
from qorch.units import CpuSet, Duration, Mac, Name, Pin, Rate, Size, Value

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_NUMBER = r"^\s*\d+(\.\d+)?\s*"
_SETS = r"^\d+(-\d+)?(,\d+(-\d+)?)*$"
_FORMS: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    str: {"type": "string"},
    Path: {"type": "string", "minLength": 1, "description": "A path; relative ones start here."},
    UUID: {"type": "string", "format": "uuid", "description": "A UUID."},
    Size: {"type": "string", "pattern": rf"{_NUMBER}([KMGTP]iB|[kMGT]B|B)\s*$"},
    Duration: {"type": "string", "pattern": rf"{_NUMBER}(ms|s|min|h|d)\s*$"},
    Rate: {"type": "string", "pattern": rf"{_NUMBER}[kMGT]?bit\s*$"},
    Mac: {"type": "string", "pattern": "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"},
    Name: {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
    CpuSet: {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SETS}]},
    Pin: {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": f"{_SETS}|^any$"},
        ]
    },
    MachineType: {"type": "string", "pattern": "^(pc|q35|microvm|pc-.+)$"},
    Value: {"type": ["boolean", "integer", "string"]},
    IPv4Address: {"type": "string", "format": "ipv4"},
    IPv6Address: {"type": "string", "format": "ipv6"},
    **{
        kind: {"type": "string", "pattern": r"^[0-9A-Fa-f.:]+/\d+$", "description": "A subnet."}
        for kind in (IPv4Network, IPv6Network, IPv4Interface, IPv6Interface)
    },
}


def make_schema() -> Schema:
    """The schema of a whole document, draft 2020-12."""
    definitions: dict[str, Schema] = {}
    _refer(Spec, definitions)
    document = definitions.pop("Spec")
    return {
        "$schema": _DIALECT,
        "title": "vm.toml",
        **document,
        "$defs": dict(sorted(definitions.items())),
    }


def _refer(kind: type, definitions: dict[str, Schema]) -> Schema:
    """A reference to a class, which is described once; its short form beside it."""
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}  # it may contain itself
        definitions[name].update(_describe(kind, definitions))
    table = {"$ref": f"#/$defs/{name}"}
    if name not in SHORT_FORMS:
        return table
    hints = typing.get_type_hints(kind)
    return {"anyOf": [_form(hints[SHORT_FORMS[name]], definitions), table]}


def _describe(kind: type, definitions: dict[str, Schema]) -> Schema:
    hints = typing.get_type_hints(kind)
    properties, required = {}, []
    for field in attrs.fields(kind):
        name = toml_name(field)
        properties[name] = _property(field, hints[field.name], definitions)
        if field.default is attrs.NOTHING:
            required.append(name)
    for switch in SWITCHES.get(kind.__name__, ()):
        properties[switch] = {"anyOf": [{"type": "boolean"}, properties[switch]]}
    for short, (long, key) in SHORT_KEYS.get(kind.__name__, {}).items():
        inner = next(field for field in attrs.fields(kind) if toml_name(field) == long)
        inner_hints = typing.get_type_hints(hints[inner.name])
        properties[short] = {
            **_form(inner_hints[key], definitions),
            "description": f"Short for {long} = {{ {key} = … }}.",
        }
    schema: Schema = {
        "type": "object",
        "description": _first_words(kind),
        "properties": properties,
        "additionalProperties": False,
    }
    return {**schema, "required": required} if required else schema


def _property(field: attrs.Attribute[Any], hint: Any, definitions: dict[str, Schema]) -> Schema:
    schema = dict(_form(hint, definitions))
    plain = not (isinstance(field.default, attrs.Factory | tuple) or attrs.has(type(field.default)))
    if plain and field.default not in (None, attrs.NOTHING):
        schema["default"] = make_plain(field.default)
    return schema


def _form(hint: Any, definitions: dict[str, Schema]) -> Schema:
    """What values of a type look like in TOML."""
    if hint in _FORMS:
        words = _first_words(hint)
        return {"description": words, **_FORMS[hint]} if words else _FORMS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        forms = [_form(item, definitions) for item in arguments if item is not types.NoneType]
        return forms[0] if len(forms) == 1 else {"anyOf": forms}
    if origin is tuple:
        return {"type": "array", "items": _form(arguments[0], definitions)}
    if origin is Mapping:
        return {
            "type": "object",
            "propertyNames": _form(arguments[0], definitions),
            "additionalProperties": _form(arguments[1], definitions),
        }
    if issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
        return {"enum": values, "description": _first_words(hint)}
    return _refer(hint, definitions)


def _first_words(kind: Any) -> str:
    """The first sentence of a class's docstring, as text."""
    if not isinstance(kind, type) or kind in (bool, int, str):
        return ""
    text = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return " ".join(text.replace("`", "").split())
