"""Read the old iptables' filter table, which nf_tables does not show.

The kernel gives it as a blob (linux/netfilter_ipv4/ip_tables.h): entries of variable length, and
for each hook where its chain begins and where its policy stands. The table is looked at only where
it is in use: asking for one makes the kernel load it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qorch_net.foreign import ForeignChain, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES: Final = Path("/proc/thread-self/net/ip_tables_names")
_NAME: Final = b"filter"
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES
_INFO: Final = struct.Struct("=32sI5I5III")
_HEAD: Final = 40  # struct ipt_get_entries before its entries
_HOOKS: Final = {1: ("input", "INPUT"), 2: ("forward", "FORWARD")}  # NF_INET_*
_INTERFACES: Final = struct.Struct("=16s16s")  # ipt_ip.iniface and .outiface, at 16
_OFFSETS: Final = struct.Struct("=HH")  # target_offset and next_offset, at 88
_VERDICT: Final = struct.Struct("=i")  # of a standard target, at 32
_ACCEPT: Final = -2  # -NF_ACCEPT - 1
_DROP: Final = -1


def find_legacy_chains() -> tuple[ForeignChain, ...]:
    """Find the chains of the old iptables whose policy is drop."""
    with suppress(OSError):
        if _NAME.decode() in _TABLES.read_text().split():
            return tuple(parse_table(*_read_table()))
    return ()


def parse_table(info: bytes, entries: bytes) -> Iterator[ForeignChain]:
    """Read the blob of a filter table."""
    _, hooks, *numbers, _, _ = _INFO.unpack(info)
    policies = numbers[5:]
    accepts = frozenset(_find_accepted(entries))
    for hook, (name, chain) in _HOOKS.items():
        if hooks >> hook & 1 and _get_verdict(entries, policies[hook]) == _DROP:
            yield ForeignChain(
                kind=Kind.LEGACY,
                family="ip",
                table=_NAME.decode(),
                name=chain,
                hook=name,
                why="policy drop",
                accepts=accepts,
            )


def _find_accepted(entries: bytes) -> Iterator[str]:
    offset = 0
    while offset + 112 <= len(entries):
        if _get_verdict(entries, offset) == _ACCEPT:
            for name in _INTERFACES.unpack_from(entries, offset + 16):
                if text := name.rstrip(b"\0").decode(errors="replace"):
                    yield text
        _, following = _OFFSETS.unpack_from(entries, offset + 88)
        if not following:
            return
        offset += following


def _get_verdict(entries: bytes, offset: int) -> int | None:
    target, _ = _OFFSETS.unpack_from(entries, offset + 88)
    start = offset + target
    if entries[start + 2 : start + 3] != b"\0":  # a standard target has no name
        return None
    (verdict,) = _VERDICT.unpack_from(entries, start + 32)
    return int(verdict)


def _read_table() -> tuple[bytes, bytes]:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        info = _ask(sock, _GET_INFO, bytearray(_NAME.ljust(_INFO.size, b"\0")))
        *_, size = _INFO.unpack(info)
        request = bytearray(_HEAD + size)
        struct.pack_into("=32sI", request, 0, _NAME, size)
        return info, _ask(sock, _GET_ENTRIES, request)[_HEAD:]


def _ask(sock: socket.socket, option: int, buffer: bytearray) -> bytes:
    """Do what socket.getsockopt does not: hand the kernel a question in the buffer."""
    data = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    size = ctypes.c_uint32(len(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.getsockopt(sock.fileno(), socket.IPPROTO_IP, option, data, ctypes.byref(size))
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return bytes(buffer)
