"""Who listens on which port: /proc/net/tcp, udp and the like, read and searched."""

from __future__ import annotations

import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

import attrs

from qorch_net.plan import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch_net.plan import IpAddress

_LISTENS: Final = {Transport.TCP: "0A", Transport.UDP: "07"}  # TCP_LISTEN; UDP's is TCP_CLOSE


@attrs.frozen(kw_only=True)
class Listener:
    """A socket that waits for others; `inode` leads to the process that holds it."""

    transport: Transport
    address: IpAddress
    port: int
    inode: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}/{self.transport.value}"

    def takes(self, address: IpAddress | None) -> bool:
        """Whether packets to this address of the host come here; None: to some address."""
        return address is None or self.address.is_unspecified or self.address == address


def parse_sockets(text: str, transport: Transport) -> Iterator[Listener]:
    """Read /proc/net/tcp, tcp6, udp or udp6; a line that is none is left out."""
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10 or words[3] != _LISTENS[transport]:
            continue
        try:
            address, port = words[1].split(":")
            yield Listener(
                transport=transport,
                address=_parse_address(address),
                port=int(port, 16),
                inode=int(words[9]),
            )
        except ValueError:
            continue


def _parse_address(text: str) -> IpAddress:
    """Numbers of 32 bits in the host's byte order, as hexadecimal digits."""
    size = len(text) // 8
    numbers = struct.unpack(f">{size}I", bytes.fromhex(text))
    packed = struct.pack(f"{'<' if sys.byteorder == 'little' else '>'}{size}I", *numbers)
    if size == 1:
        return IPv4Address(packed)
    address = IPv6Address(packed)
    return address.ipv4_mapped or address
