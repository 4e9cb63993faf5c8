"""Plain data to attrs values and back: the same forms in vm.toml and in stored definitions."""

from __future__ import annotations

import difflib
import enum
import functools
from collections.abc import Callable, Hashable, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from pathlib import Path
from typing import Any, get_args, get_origin
from uuid import UUID

import attrs
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)

from qorch.errors import WrongValueError
from qorch.spec import MachineType
from qorch.units import CpuSet, Duration, Mac, Name, Pin, Rate, Size, Value


def _write(value: object) -> str:
    """A wrong value as the file has it, if that is short."""
    match value:
        case bool():
            return str(value).lower()
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
    return repr(value)


def _read_bool(value: object, _: type) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError(f"{_write(value)} is not true or false", "both without quotes")
    return value


def _read_int(value: object, _: type) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        message = f"{_write(value)} is not a whole number"
        raise WrongValueError(message, "without quotes and units")
    return value


def _read_str(value: object, _: type) -> str:
    if not isinstance(value, str):
        scalar = isinstance(value, bool | int | float)
        hint = f'put it in quotes: "{_write(value)}"' if scalar else "it is one text, in quotes"
        raise WrongValueError(f"{_write(value)} is not a string", hint)
    if "\0" in value:
        message = f"{value!r} contains a NUL, which no program can be given"
        raise WrongValueError(message, "leave it out")
    return value


def _read_value(value: object, _: Any) -> Value:
    if not isinstance(value, bool | int | str):
        message = f"{_write(value)} is not true or false, a number or a string"
        raise WrongValueError(message, 'such as true, 5 or "text"')
    return value


def _read_path(value: object, _: type) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        message = f"{_write(value)} is not a path"
        raise WrongValueError(message, 'a string, such as "images/disk.qcow2"')
    return Path(value)


def _read_enum(value: object, kind: type[enum.Enum]) -> enum.Enum:
    known = {member.value: member for member in kind}
    if not isinstance(value, str) or value not in known:
        near = [word for word in known if word.lower() == str(value).lower()]
        near += difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f'such as "{next(iter(known))}"'
        raise WrongValueError(f"{_write(value)} is none of {', '.join(known)}", hint)
    return known[value]


def _strictly(read: Callable[[str], Any], what: str, example: str) -> Callable[[object, type], Any]:
    """Turn a stdlib constructor that also takes numbers into one that takes text only."""

    def structure(value: object, _: type) -> Any:
        try:
            return read(_read_str(value, str))
        except ValueError as error:
            raise WrongValueError(f"{value!r} is not {what}: {error}", example) from None

    return structure


_TEXT_FORMS: dict[Callable[[str], Any], tuple[str, str]] = {
    IPv4Address: ("an IPv4 address", 'such as "192.168.133.5"'),
    IPv4Interface: ("an IPv4 address with a prefix length", 'such as "192.168.133.5/24"'),
    IPv4Network: ("an IPv4 subnet", 'such as "192.168.133.0/24"'),
    IPv6Address: ("an IPv6 address", 'such as "fd00:85::5"'),
    IPv6Interface: ("an IPv6 address with a prefix length", 'such as "fd00:85::5/64"'),
    IPv6Network: ("an IPv6 subnet", 'such as "fd00:85::/64"'),
    UUID: ("a UUID", "uuidgen makes one"),
}
_PLAIN_FORMS: dict[type, Callable[[object, Any], Any]] = {
    bool: _read_bool,
    int: _read_int,
    str: _read_str,
    enum.StrEnum: _read_enum,  # or it would be read as the str that it is
    Path: _read_path,
}
_SCALARS = (Size, Duration, Rate, Mac, Name, CpuSet, Pin, MachineType)
_TEXTS = (*_SCALARS, Path, UUID, IPv4Address, IPv4Network, IPv6Address, IPv6Network)
_PLAIN = {bool, int, float, str}
_TABLE = "write it as {{ {} = … }}, or under a [header] of its own"
_TABLES = "there may be several: [[…]] above the keys of each, or [{ key = value }]"
_NAMED = "each has a name, and a header of its own such as [vm.web]"
SHORT_FORMS = {  # `memory = "1GiB"` for `memory = { size = "1GiB" }`
    "BalloonSpec": "enabled",
    "ChardevSpec": "type",
    "DhcpSpec": "enabled",
    "DisplaySpec": "type",
    "FirmwareSpec": "type",
    "MemorySpec": "size",
    "RateSpec": "rate",
    "TpmSpec": "version",
}
SHORT_KEYS = {
    "MachineSpec": {"cpus": ("cpu", "count")},  # `cpus = 2` for `cpu = { count = 2 }`
    "MemorySpec": {"hugepages": ("backend", "hugepages")},
}
SWITCHES = {"MachineSpec": ("rng",)}  # `rng = false` for `rng = []`, true for one as it comes


def toml_name(field: attrs.Attribute[Any]) -> str:
    """The key of a field in vm.toml: tables are singular there."""
    name: str = field.metadata.get("toml", field.name)
    return name


@functools.cache
def get_converter() -> Converter:
    """What reads vm.toml and stored definitions; strict about types and unknown keys.

    cattrs would compile two functions for each of 300 classes before the first machine comes up:
    most of a second, for values that are read once. Classes are gone through field by field.
    """
    converter = Converter()
    for scalar in _SCALARS:
        converter.register_structure_hook(scalar, lambda value, kind: kind.from_text(value))
    for kind, read in _PLAIN_FORMS.items():  # by class: cattrs asks its own such hooks first
        converter.register_structure_hook(kind, read)
    for text_form, (what, example) in _TEXT_FORMS.items():
        converter.register_structure_hook(text_form, _strictly(text_form, what, example))
    converter.register_structure_hook(
        IPv4Address | IPv6Address, _strictly(ip_address, "an IP address", 'such as "192.168.133.5"')
    )
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, enum.Enum), _read_enum
    )
    converter.register_structure_hook_factory(
        attrs.has, lambda cls: _structure_class(cls, converter)
    )
    converter.register_structure_hook_func(lambda kind: kind == Value, _read_value)
    converter.register_structure_hook_func(_is_sequence, _structure_sequence(converter))
    converter.register_structure_hook_func(_is_mapping, _structure_mapping(converter))
    return converter


@functools.cache
def _find_fields(cls: Hashable) -> dict[str, attrs.Attribute[Any]]:
    """The fields by their keys, required ones first; their types are no text of annotations."""
    attrs.resolve_types(cls)  # type: ignore[type-var]
    fields = [field for field in attrs.fields(cls) if field.init]  # type: ignore[arg-type]
    fields.sort(key=lambda field: field.default is not attrs.NOTHING)
    return {toml_name(field): field for field in fields}


def make_plain(value: Any) -> Any:
    """What JSON and TOML have, as it is read again; fields that are as by default are left out.

    Raises TypeError for what has no such form.
    """
    kind: Any = type(value)
    match value:
        case enum.Enum():
            return value.value
        case _ if isinstance(value, _TEXTS):
            return str(value)
        case _ if value is None or kind in _PLAIN:
            return value
        case Mapping():
            return {make_plain(key): make_plain(item) for key, item in value.items()}
        case tuple() | list():
            return [make_plain(item) for item in value]
        case _ if attrs.has(kind):
            return {
                key: make_plain(item)
                for key, field in _find_fields(kind).items()
                if (item := getattr(value, field.name)) != _find_default(field, value)
            }
    raise TypeError(f"{kind.__name__} has no plain form")


def _find_default(field: attrs.Attribute[Any], of: object) -> Any:
    default: Any = field.default
    if not isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default
    return default.factory(of) if default.takes_self else default.factory()


def _structure_class(cls: type, converter: Converter) -> Callable[[object, type], Any]:
    form = SHORT_FORMS.get(cls.__name__)
    keys = SHORT_KEYS.get(cls.__name__, {})

    def read(value: object, _: type) -> Any:
        if form and not isinstance(value, Mapping):
            value = {form: value}
        if not isinstance(value, Mapping):
            raise WrongValueError(f"{_write(value)} is not a table", _table_hint(cls, value))
        for switch in SWITCHES.get(cls.__name__, ()):
            if isinstance(value.get(switch), bool):
                value = {**value, switch: [{}] if value[switch] else []}
        return _structure_fields(_spell_out(value, keys), cls, converter)

    return read


def _table_hint(cls: type, value: object) -> str:
    """How a table is written, by a key that it has."""
    fields = attrs.fields(cls)
    needed = [toml_name(field) for field in fields if field.default is attrs.NOTHING]
    if value is True and not needed:
        return "{} is one as it comes"
    return _TABLE.format((needed or [toml_name(fields[0])])[0])


def _structure_fields(table: Mapping[str, Any], cls: type, converter: Converter) -> Any:
    """All that is wrong with a table comes at once, each with a note of where it is."""
    fields = _find_fields(cls)
    values, errors = dict[str, Any](), list[Exception]()
    for key, field in fields.items():
        if key not in table and field.default is not attrs.NOTHING:
            continue
        try:
            kind: Any = field.type
            values[str(field.alias)] = converter.structure(table[key], kind)
        except Exception as error:  # noqa: BLE001  every one is collected
            error.add_note(AttributeValidationNote(f"At key {key!r}", field.name, field.type))
            errors.append(error)
    if unknown := set(table) - set(fields):
        errors.append(ForbiddenExtraKeysError(None, cls, unknown))
    if not errors:
        try:
            return cls(**values)
        except Exception as error:  # noqa: BLE001  what its validators say
            errors.append(error)
    raise ClassValidationError(f"While structuring {cls.__name__}", errors, cls)


def _spell_out(table: Mapping[str, Any], keys: Mapping[str, tuple[str, str]]) -> Mapping[str, Any]:
    """Move values from their short keys to the tables they stand for."""
    for short in keys.keys() & table.keys():
        long, key = keys[short]
        inner = table.get(long, {})
        if not isinstance(inner, Mapping) or key in inner:
            message = f"{short!r} and {long!r} say the same thing"
            raise WrongValueError(message, "keep one of them")
        rest = {name: value for name, value in table.items() if name != short}
        table = {**rest, long: {**inner, key: table[short]}}
    return table


def _is_sequence(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _structure_sequence(converter: Converter) -> Callable[[object, Any], tuple[Any, ...]]:
    """Only lists become tuples: a string is no list of its letters."""

    def read(value: object, kind: Any) -> tuple[Any, ...]:
        item = get_args(kind)[0]
        if not isinstance(value, list | tuple):
            hint = _TABLES if attrs.has(item) else "put it in brackets: [ … ]"
            raise WrongValueError(f"{_write(value)} is not a list", hint)
        return tuple(converter.structure(value, list[item]))  # type: ignore[valid-type]

    return read


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _structure_mapping(converter: Converter) -> Callable[[object, Any], dict[Any, Any]]:
    """A bad name does not hide what else is wrong below it, nor the other way round."""

    def read(value: object, kind: Any) -> dict[Any, Any]:
        name_type, item_type = get_args(kind)
        if not isinstance(value, Mapping):
            hint = _NAMED if attrs.has(item_type) else _TABLE.format("key")
            raise WrongValueError(f"{_write(value)} is not a table", hint)
        result, errors = {}, list[Exception]()
        for key, item in value.items():
            found = []
            for part, part_type in ((key, name_type), (item, item_type)):
                try:
                    found.append(converter.structure(part, part_type))
                except Exception as error:  # noqa: BLE001  every one is collected
                    note = IterableValidationNote(f"At key {key!r}", key, part_type)
                    error.add_note(note)
                    errors.append(error)
            if len(found) == 2:
                result[found[0]] = found[1]
        if errors:
            raise IterableValidationError(f"While structuring {kind}", errors, kind)
        return result

    return read
