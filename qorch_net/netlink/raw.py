"""Messages whose attributes are left as bytes: pyroute2 takes 20 us to look into each of them."""

from __future__ import annotations

import struct
from typing import Any, Final

from pyroute2.netlink import nlmsg
from pyroute2.netlink.nfnetlink import nfgen_msg

from qorch_net.attributes import get_text, split_attributes

_ATTRIBUTES: Final = 80  # more than there are of anything
_MAP: Final = tuple((str(number), "cdata") for number in range(_ATTRIBUTES))
_U32: Final = struct.Struct("=I")


class _Raw:
    """What a message with such attributes can do; those to be sent are named by number, too."""

    prefix = ""
    nla_map = _MAP
    data: Any
    offset: int
    length: int

    def decode_nlas(self: Any, offset: int) -> None:
        """Take the attributes apart, for pyroute2."""
        data = bytes(self.data[offset : self.offset + self.length])
        self["attrs"] = list(split_attributes(data))

    def get_bytes(self: Any, number: int) -> bytes | None:
        """The bytes of an attribute."""
        return next((value for key, value in self["attrs"] if key == number), None)

    def get_text(self, number: int) -> str | None:
        """The text of an attribute."""
        return get_text(self.get_bytes(number))

    def get_number(self, number: int) -> int | None:
        """The number of 32 bits in the host's byte order that an attribute is."""
        value = self.get_bytes(number)
        return None if value is None else int(_U32.unpack(value)[0])

    def get_nested(self, number: int) -> dict[int, bytes]:
        """The attributes within an attribute."""
        return dict(split_attributes(self.get_bytes(number) or b""))


class Raw(_Raw, nlmsg):  # type: ignore[misc]
    """Of rtnetlink."""


class RawNft(_Raw, nfgen_msg):  # type: ignore[misc]
    """Of nf_tables."""
