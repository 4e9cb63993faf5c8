"""Find who listens on a port of this host, in the calling thread's network namespace."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qorch_net.plan import Transport
from qorch_net.sockets import Listener, parse_sockets

if TYPE_CHECKING:
    from collections.abc import Collection

_NET: Final = Path("/proc/thread-self/net")
_PROC: Final = Path("/proc")


def find_listeners(ports: Collection[tuple[Transport, int]]) -> tuple[Listener, ...]:
    """Find the sockets that listen on these ports."""
    found = []
    for transport in {transport for transport, _ in ports}:
        for name in (transport.value, f"{transport.value}6"):
            with suppress(FileNotFoundError):
                text = (_NET / name).read_text()
                found += [x for x in parse_sockets(text, transport) if (transport, x.port) in ports]
    return tuple(found)


def describe(listener: Listener) -> str:
    """Say who holds a socket: `dnsmasq (pid 4711) on 0.0.0.0:53/udp`."""
    target = f"socket:[{listener.inode}]"
    for directory in _PROC.iterdir():
        if directory.name.isdecimal():
            with suppress(OSError):  # it ended, or is not ours to look at
                if any(os.readlink(fd) == target for fd in (directory / "fd").iterdir()):  # noqa: PTH115
                    program = (directory / "comm").read_text().strip()
                    return f"{program} (pid {directory.name}) on {listener}"
    return f"somebody on {listener}"
