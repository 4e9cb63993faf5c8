"""Writes a GUID partition table (UEFI specification, chapter 5) without any partitioning tool.

The same partitions give the same bytes: identifiers are derived from names.
"""

import struct
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

SECTOR = 512
ENTRIES = 128
ENTRY_SIZE = 128
TABLE_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
RESERVED = TABLE_SECTORS + 1  # table and header, at the end of the disk
FIRST_USABLE = TABLE_SECTORS + 2  # behind the protective MBR, header and table

LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")

NAMESPACE = uuid.UUID("5f0c6a1e-6d0f-4a52-9c3b-0e6f2d0c8a77")  # random, once


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition; `start` and `size` are in sectors."""

    type: uuid.UUID
    name: str
    start: int
    size: int


def make_guid(name: str) -> uuid.UUID:
    """Return the identifier that belongs to a name."""
    return uuid.uuid5(NAMESPACE, name)


def make_gpt(sectors: int, partitions: Mapping[int, Partition]) -> dict[int, bytes]:
    """Return what to write where (byte offsets) on a disk of so many sectors.

    `partitions` go by their number, counted from 1. The first piece is the end of the MBR, from
    byte 446 on; the code before it is left alone.
    """
    check(sectors, partitions)
    table = b"".join(
        make_entry(partitions[number]) if number in partitions else bytes(ENTRY_SIZE)
        for number in range(1, ENTRIES + 1)
    )
    last, backup_table = sectors - 1, sectors - RESERVED
    return {
        446: make_protective_mbr(sectors),
        1 * SECTOR: make_header(table, here=1, other=last, table_at=2, sectors=sectors),
        2 * SECTOR: table,
        backup_table * SECTOR: table,
        last * SECTOR: make_header(
            table, here=last, other=1, table_at=backup_table, sectors=sectors
        ),
    }


def check(sectors: int, partitions: Mapping[int, Partition]) -> None:
    """Raise ValueError for partitions that overlap or do not fit."""
    free = FIRST_USABLE
    for partition in sorted(partitions.values(), key=lambda partition: partition.start):
        if partition.start < free or partition.start + partition.size > sectors - RESERVED:
            raise ValueError(f"partition {partition.name} overlaps something or does not fit")
        free = partition.start + partition.size


def make_entry(partition: Partition) -> bytes:
    """Return one entry of the table."""
    last = partition.start + partition.size - 1
    return (
        partition.type.bytes_le
        + make_guid(f"partition {partition.name}").bytes_le
        + struct.pack("<QQQ", partition.start, last, 0)
        + partition.name.encode("utf-16le").ljust(72, b"\0")
    )


def make_header(table: bytes, *, here: int, other: int, table_at: int, sectors: int) -> bytes:
    """Return the header for sector `here`, which is the same as the other but for addresses."""
    fields = [
        b"EFI PART",
        0x10000,  # revision 1.0
        92,  # size of this header
        0,  # its checksum, filled in below
        0,
        here,
        other,
        FIRST_USABLE,
        sectors - RESERVED - 1,
        make_guid("disk").bytes_le,
        table_at,
        ENTRIES,
        ENTRY_SIZE,
        zlib.crc32(table),
    ]
    layout = struct.Struct("<8sIIIIQQQQ16sQIII")
    fields[3] = zlib.crc32(layout.pack(*fields))
    return layout.pack(*fields).ljust(SECTOR, b"\0")


def make_protective_mbr(sectors: int) -> bytes:
    """Return the partition table of the MBR: one partition over all that old tools keep off."""
    whole = struct.pack(
        "<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF)
    )
    return whole.ljust(64, b"\0") + b"\x55\xaa"
