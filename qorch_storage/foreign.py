"""The headers of vmdk, vdi and qed images, as far as a list of volumes needs them. Pure.

A process per image would cost 10 ms. What is read here is shown, and tells what builds on what;
before an image is used, QEMU's own reading of it counts. So what cannot be read is no error here,
it is just not known.
"""

from __future__ import annotations

import re
import struct

import attrs

from qorch_storage.plan import SECTOR, ImageFormat

_VMDK = struct.Struct("<4sIIQQQQ")
_QED = struct.Struct("<4sIIIQQQQQII")
_VDI_SIZE = struct.Struct("<Q")
_VDI_SIZE_AT = 368
_QED_BACKING, _QED_RAW_BACKING = 1, 4
_PARENT = re.compile(rb'^parentFileNameHint="([^"\n]*)"', re.MULTILINE)
_EXTENT = re.compile(rb'^RW (\d{1,18}) [A-Z]+ "', re.MULTILINE)


@attrs.frozen(kw_only=True)
class Foreign:
    """What a header says: bytes, and the backing file's name as it is written there."""

    virtual_size: int
    backing_file: str | None = None
    backing_format: str | None = None


def parse_foreign(data: bytes, image_format: ImageFormat) -> Foreign | None:
    """Read an image's first 64 KiB; `None` if nothing can be told."""
    parse = {
        ImageFormat.VMDK: _parse_vmdk,
        ImageFormat.VDI: _parse_vdi,
        ImageFormat.QED: _parse_qed,
    }.get(image_format)
    try:
        return parse(data) if parse else None
    except struct.error:  # cut off
        return None


def _parse_vmdk(data: bytes) -> Foreign | None:
    if data.startswith(b"KDMV"):
        _, _, _, capacity, _, at, length = _VMDK.unpack_from(data)
        text = data[at * SECTOR : (at + length) * SECTOR]
        size = capacity
    else:
        text = data
        size = sum(int(sectors) for sectors in _EXTENT.findall(text))
    parent = _PARENT.search(text)
    name = _text(parent[1]) if parent else None
    return Foreign(
        virtual_size=size * SECTOR,
        backing_file=name or None,
        backing_format="vmdk" if name else None,
    )


def _parse_vdi(data: bytes) -> Foreign | None:
    (size,) = _VDI_SIZE.unpack_from(data, _VDI_SIZE_AT)
    return Foreign(virtual_size=size)


def _parse_qed(data: bytes) -> Foreign | None:
    fields = _QED.unpack_from(data)
    features, size, offset, length = fields[4], fields[8], fields[9], fields[10]
    if not features & _QED_BACKING:
        return Foreign(virtual_size=size)
    name = _text(data[offset : offset + length])
    known = "raw" if features & _QED_RAW_BACKING else None
    return Foreign(virtual_size=size, backing_file=name, backing_format=known)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="surrogateescape")
