"""What libvirt writes as units, sets and addresses, in qorch's types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from qorch.importxml.node import Node
from qorch.spec import VirtioForm, VirtioSpec
from qorch.units import CpuSet, Name, Size

T = TypeVar("T")

_UNITS = {
    **dict.fromkeys(("b", "bytes", "byte"), 1),
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtpe", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtpe", 1)},
    **{letter: 1024**power for power, letter in enumerate("kmgtpe", 1)},
}
MIB = 1 << 20


def size_of(node: Node, *, unit: str = "KiB") -> Size | None:
    """The size that an element gives as its text; None if there is none."""
    return to_size(node, node.text_number(), node.get("unit"), unit)


def size_at(node: Node, name: str, *, unit: str = "KiB") -> Size | None:
    """The size that an attribute gives, in the unit that another one names."""
    return to_size(node, node.number(name), node.get("unit"), unit)


def to_size(node: Node, number: int | None, unit: str | None, default: str) -> Size | None:
    """A number in one of libvirt's units."""
    if number is None:
        return None
    factor = _UNITS.get((unit or default).lower())
    if factor is None or number < 0:
        node.note(f"{number} {unit or default} is not a size")
        return None
    return Size(number * factor)


def round_up(size: Size, step: int = MIB) -> Size:
    """As libvirt rounds memory up."""
    return Size(-(-size // step) * step)


def cpus_of(node: Node, text: str | None) -> CpuSet | None:
    """A set as libvirt writes it: `0-3,^2,8`; None if there is none."""
    if not text:
        return None
    found: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        match = re.fullmatch(r"(\^?)(\d{1,6})(?:-(\d{1,6}))?", part)
        if match is None:
            node.note(f"{text!r} is not a set of CPUs or nodes")
            return None
        numbers = range(int(match[2]), int(match[3] or match[2]) + 1)
        found = found - set(numbers) if match[1] else found | set(numbers)
    try:
        return CpuSet.from_text(str(CpuSet(found))) if found else None
    except ValueError as error:
        node.note(str(error))
        return None


def path_of(text: str | None) -> Path | None:
    """A path; None if there is none."""
    return Path(text) if text else None


def uuid_of(node: Node, text: str | None) -> UUID | None:
    """A UUID; None if there is none, or after a note."""
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        node.note(f"{text!r} is not a UUID")
        return None


def choose(node: Node, value: str | None, known: dict[str, T], what: str) -> T | None:
    """Translate one of libvirt's words; a note says if there is nothing like it."""
    if value is None or value in ("", "default"):
        return None
    if value not in known:
        node.note(f"{what} {value!r} has no counterpart")
        return None
    return known[value]


def make_name(text: str, fallback: str) -> Name:
    """A host name as near to `text` as there is."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return Name(name or fallback)


def virtio_of(node: Node, driver: Node, model: str = "") -> VirtioSpec:
    """What a device's `<driver>` and model say that all virtio devices can have."""
    forms = {
        "virtio-transitional": VirtioForm.TRANSITIONAL,
        "virtio-non-transitional": VirtioForm.NON_TRANSITIONAL,
    }
    del node
    return VirtioSpec(
        form=forms.get(model),
        iommu_platform=driver.on("iommu"),
        ats=driver.on("ats"),
        packed=driver.on("packed"),
        page_per_vq=driver.on("page_per_vq"),
        ioeventfd=driver.on("ioeventfd"),
        event_idx=driver.on("event_idx"),
    )
