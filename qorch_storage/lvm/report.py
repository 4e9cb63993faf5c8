"""What `lvm fullreport` says, from JSON to values. Pure.

One process tells about all volume groups and their logical volumes, with the units that we ask
for: bytes, without a suffix. LVM writes every value as a string, and an empty one for what does
not apply or is not known without an active device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

VG_FIELDS = ("vg_name", "vg_size", "vg_free", "vg_extent_size")
LV_FIELDS = (
    *("lv_name", "lv_size", "lv_tags", "pool_lv", "origin", "data_percent", "metadata_percent"),
    *("lv_layout", "lv_role", "lv_active", "lv_device_open"),
)
REPORT_WORDS = (
    *("fullreport", "--reportformat", "json", "--units", "b", "--nosuffix"),
    *("--configreport", "vg", "-o", ",".join(VG_FIELDS)),
    *("--configreport", "lv", "-o", ",".join(LV_FIELDS)),
    *("--configreport", "pv", "-o", "pv_name"),
    *("--configreport", "pvseg", "-o", "pvseg_start"),
    *("--configreport", "seg", "-o", "lv_name,zero"),
)


@attrs.frozen(kw_only=True)
class LogicalVolume:
    """One LV: sizes in bytes; percentages are `None` where there is nothing that could fill up."""

    name: str
    size: int
    tags: frozenset[str] = frozenset()
    pool: str | None = None
    origin: str | None = None
    data_percent: float | None = None
    metadata_percent: float | None = None
    layout: frozenset[str] = frozenset()
    role: frozenset[str] = frozenset()
    active: bool = False
    open: bool = False
    zeroes: bool = False

    @property
    def is_volume(self) -> bool:
        """Whether it can be a disk: LVM's own parts and pools cannot."""
        return "public" in self.role and "pool" not in self.layout

    @property
    def allocation(self) -> int:
        """The bytes that it takes: of a thin one, what it has written."""
        if self.data_percent is None or not self.layout & {"thin", "pool"}:
            return self.size
        return round(self.size * self.data_percent / 100)


@attrs.frozen(kw_only=True)
class VolumeGroup:
    """One VG: sizes in bytes, its LVs by name."""

    name: str
    size: int
    free: int
    extent_size: int
    volumes: Mapping[str, LogicalVolume]


def parse_report(text: str) -> dict[str, VolumeGroup]:
    """Read what LVM printed: the volume groups by name.

    Raises ValueError for what is no such report.
    """
    try:
        data = json.loads(text)
        groups = [_parse_group(part) for part in data["report"] if part.get("vg")]
    except (AttributeError, KeyError, IndexError, RecursionError, TypeError) as error:
        raise ValueError(f"not a report of LVM: {error!r}") from None
    return {group.name: group for group in groups}


def _parse_group(part: dict[str, Any]) -> VolumeGroup:
    row = part["vg"][0]
    zeroing = {_text(seg["lv_name"]) for seg in part["seg"] if seg["zero"] == "zero"}
    volumes = list(_parse_volumes(part["lv"], zeroing))
    return VolumeGroup(
        name=_text(row["vg_name"]),
        size=_bytes(row["vg_size"]),
        free=_bytes(row["vg_free"]),
        extent_size=_bytes(row["vg_extent_size"]),
        volumes={volume.name: volume for volume in volumes},
    )


def _parse_volumes(rows: Any, zeroing: set[str]) -> Iterator[LogicalVolume]:
    for row in rows:
        yield LogicalVolume(
            name=_text(row["lv_name"]).strip("[]"),
            size=_bytes(row["lv_size"]),
            tags=_words(row["lv_tags"]),
            pool=_text(row["pool_lv"]).strip("[]") or None,
            origin=_text(row["origin"]).strip("[]") or None,
            data_percent=_percent(row["data_percent"]),
            metadata_percent=_percent(row["metadata_percent"]),
            layout=_words(row["lv_layout"]),
            role=_words(row["lv_role"]),
            active=row["lv_active"] == "active",
            open=row["lv_device_open"] == "open",
            zeroes=row["lv_name"] in zeroing,
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _words(value: Any) -> frozenset[str]:
    return frozenset(word for word in _text(value).split(",") if word)


def _bytes(value: Any) -> int:
    text = _text(value)
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ValueError(f"{text!r} is no number of bytes")
    return int(text)


def _percent(value: Any) -> float | None:
    text = _text(value)
    if not text:
        return None
    percent = float(text)
    if not 0 <= percent <= 100:
        raise ValueError(f"{text!r} is no percentage")
    return percent
