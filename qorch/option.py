"""How values become QEMU option words: the one place that knows QEMU's syntax."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from pathlib import PurePath

import attrs

Properties = dict[str, object]


_UNDERSCORED = frozenset(  # QEMU's older properties are written with `_`
    {"chassis_nr", "cmd_per_lun", "device_id", "discard_granularity", "event_idx", "host_mtu"}
    | {"iommu_platform", "logical_block_size", "max_outputs", "max_sectors", "min_io_size"}
    | {"mount_tag", "num_queues", "opt_io_size", "physical_block_size", "ram_size"}
    | {"rotation_rate", "rx_queue_size", "security_model", "tx_queue_size", "vgamem_mb"}
    | {"vram64_size_mb", "vram_size", "vram_size_mb", "max_ioqpairs"}
)

NOT_A_PROPERTY: dict[str, str | None] = {"qemu": None}
"""Metadata of a field of a switch class that is not one of QEMU's properties itself."""


def properties(switch: attrs.AttrsInstance) -> Properties:
    """The fields of a switch class under QEMU's names: `_` is `-`, None is left out.

    A field's metadata may give another name. A value that has fields itself stands for them, a
    mapping for what is in it.
    """
    found: Properties = {}
    for field in attrs.fields(type(switch)):
        name = field.metadata.get("qemu", property_name(field.name))
        value = getattr(switch, field.name)
        if name is None or value is None:
            continue
        if attrs.has(type(value)):
            found |= properties(value)
        elif isinstance(value, Mapping):
            found |= {key: plain(item) for key, item in value.items()}
        else:
            found[name] = plain(value)
    return found


def property_name(name: str) -> str:
    """QEMU's name for a field: `_` is `-` there, but for those that always had it."""
    return name if name in _UNDERSCORED else name.replace("_", "-")


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
