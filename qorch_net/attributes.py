"""Attributes of netlink messages, as bytes (struct nlattr, which is struct rtattr, too)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = struct.Struct("=HH")  # length with this header, number
_NUMBER: Final = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


def split_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The numbers and values of attributes that follow each other; ends where none can be."""
    offset, end = 0, len(data)
    while offset + _HEADER.size <= end:
        length, number = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield number & _NUMBER, data[offset + _HEADER.size : offset + length]
        offset += length + -length % 4


def get_text(value: bytes | None) -> str | None:
    """The text of an attribute."""
    return None if value is None else value.rstrip(b"\0").decode(errors="replace")
