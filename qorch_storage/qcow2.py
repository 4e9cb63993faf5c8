"""The header of a qcow2 image, from bytes to fields, with no file and no process.

Why not `qemu-img info`: a process per image costs 10 ms, and a pool of 1,000 volumes is to be
listed in one second. The header is a fixed structure (docs/interop/qcow2.txt in QEMU's source),
so reading it is cheap. The bytes may come from anybody, therefore nothing in them is believed
before it is checked: the limits are those of QEMU's own qcow2_do_open(), and whatever breaks one
is a ValueError that says which.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import attrs

MAGIC = b"QFI\xfb"
MAX_CLUSTER = 1 << 21  # QEMU's largest cluster; header, extensions and backing name lie in one

_BASE = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_HEADER_LENGTH = {2: _BASE.size, 3: _BASE.size + _V3.size}
_MAX_BACKING_NAME = 1023
_MAX_BACKING_FORMAT = 15
_MAX_L1_ENTRIES = (32 << 20) // 8
_MAX_SIZE = 2**63 - 512
_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE = 0x44415441
_DIRTY, _CORRUPT, _EXTERNAL_DATA, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_FEATURES = _DIRTY | _CORRUPT | _EXTERNAL_DATA | _COMPRESSION | _EXTENDED_L2


@attrs.frozen(kw_only=True)
class Qcow2Header:
    """What a qcow2 header says. Names are as written in it, not resolved; sizes are in bytes."""

    version: int
    cluster_size: int
    virtual_size: int
    backing_file: str | None
    backing_format: str | None
    external_data: bool
    data_file: str | None
    encrypted: bool
    dirty: bool
    corrupt: bool
    l1_offset: int
    l1_size: int

    def check_tables(self, file_size: int) -> None:
        """Refuse an image that claims more than its file could hold. Raises ValueError."""
        end = self.l1_offset + self.l1_size * 8
        _need(not self.l1_size or end <= file_size, "its L1 table lies outside of the file")


def parse_header(data: bytes) -> Qcow2Header:
    """Read the header from an image's first cluster (or its first MAX_CLUSTER bytes).

    Raises ValueError, saying what is wrong, for every header that QEMU would refuse as well.
    """
    _need(len(data) >= _BASE.size, "the header is cut off")
    fields = _BASE.unpack_from(data)
    magic, version, backing_offset, backing_length, cluster_bits, size, crypt, l1_size = fields[:8]
    l1_offset = fields[8]
    _need(magic == MAGIC, "it does not begin like one")
    _need(version in _HEADER_LENGTH, f"version {version} is unknown")
    _need(9 <= cluster_bits <= 21, f"clusters of 2^{cluster_bits} bytes are not possible")
    _need(crypt <= 2, f"encryption method {crypt} is unknown")
    cluster_size = 1 << cluster_bits
    features, header_length = _parse_v3(data, cluster_size) if version == 3 else (0, _BASE.size)
    _check_size(size, cluster_bits, l1_size, extended=bool(features & _EXTENDED_L2))
    _need(backing_offset <= cluster_size, "the backing file's name lies outside of the header")
    extensions = dict(_extensions(data, header_length, backing_offset or cluster_size))
    backing_file = _parse_backing(data, backing_offset, backing_length, cluster_size)
    backing_format = _parse_backing_format(extensions.get(_BACKING_FORMAT))
    return Qcow2Header(
        version=version,
        cluster_size=cluster_size,
        virtual_size=size - size % 512,
        backing_file=backing_file,
        backing_format=backing_format if backing_file else None,
        external_data=bool(features & _EXTERNAL_DATA),
        data_file=_text(extensions[_DATA_FILE]) if _DATA_FILE in extensions else None,
        encrypted=crypt != 0,
        dirty=bool(features & _DIRTY),
        corrupt=bool(features & _CORRUPT),
        l1_offset=l1_offset,
        l1_size=l1_size,
    )


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _text(raw: bytes) -> str:
    """Decode a name as `os.fsdecode` does; it ends at the first NUL, as it does for QEMU."""
    return raw.partition(b"\0")[0].decode(errors="surrogateescape")


def _parse_v3(data: bytes, cluster_size: int) -> tuple[int, int]:
    _need(len(data) >= _HEADER_LENGTH[3], "the header is cut off")
    incompatible, _, _, refcount_order, header_length = _V3.unpack_from(data, _BASE.size)
    _need(_HEADER_LENGTH[3] <= header_length <= cluster_size, "the header's length is wrong")
    _need(refcount_order <= 6, "reference counts of more than 64 bits are not possible")
    unknown = incompatible & ~_KNOWN_FEATURES
    _need(not unknown, f"it needs features (bits {unknown:#x}) of a newer QEMU")
    return incompatible, header_length


def _check_size(size: int, cluster_bits: int, l1_size: int, *, extended: bool) -> None:
    _need(not extended or cluster_bits >= 14, "subclusters need clusters of 16 KiB or more")
    _need(size <= _MAX_SIZE, f"a virtual size of {size} bytes is not possible")
    _need(l1_size <= _MAX_L1_ENTRIES, f"an L1 table of {l1_size} entries is not possible")
    l1_bits = 2 * cluster_bits - (4 if extended else 3)  # bytes mapped by one L1 entry
    needed = (size + (1 << l1_bits) - 1) >> l1_bits
    _need(needed <= l1_size, f"its L1 table is too small for {size} bytes")


def _extensions(data: bytes, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield (type, content) of each header extension up to the end mark."""
    while offset < end:
        _need(offset + _EXTENSION.size <= len(data), "the header extensions are cut off")
        kind, length = _EXTENSION.unpack_from(data, offset)
        offset += _EXTENSION.size
        if kind == 0:
            return
        _need(offset <= end and length <= end - offset, "a header extension is too long")
        _need(offset + length <= len(data), "the header extensions are cut off")
        yield kind, data[offset : offset + length]
        offset += (length + 7) & ~7


def _parse_backing(data: bytes, offset: int, length: int, cluster_size: int) -> str | None:
    if not offset:
        return None
    limit = min(_MAX_BACKING_NAME, cluster_size - offset)
    _need(length <= limit, "the backing file's name is too long")
    _need(offset + length <= len(data), "the backing file's name is cut off")
    return _text(data[offset : offset + length]) or None


def _parse_backing_format(raw: bytes | None) -> str | None:
    _need(len(raw or b"") <= _MAX_BACKING_FORMAT, "the backing format's name is too long")
    return _text(raw) or None if raw is not None else None
