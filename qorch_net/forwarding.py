"""IPv4 forwarding, `net.ipv4.ip_forward`.

/proc/sys/net shows the network namespace of the thread that opens it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from qorch_net.errors import NetError

_SWITCH: Final = Path("/proc/sys/net/ipv4/ip_forward")
_LEGACY_TABLES: Final = Path("/proc/thread-self/net/ip_tables_names")
_HINT: Final = "mount /proc/sys writable, or set net.ipv4.ip_forward = 1 beforehand"


def find_forwarding() -> bool:
    """Whether the host forwards IPv4 packets."""
    return _SWITCH.read_text().strip() == "1"


def check_forwarding() -> None:
    """Raise NetError if forwarding is off and cannot be switched on."""
    if not find_forwarding() and not os.access(_SWITCH, os.W_OK):
        raise NetError(f"IPv4 forwarding is off and {_SWITCH} cannot be written", _HINT)


def set_forwarding(*, on: bool) -> None:
    """Switch forwarding of IPv4 packets on or off."""
    try:
        _SWITCH.write_text("1" if on else "0")
    except OSError as error:
        raise NetError(f"cannot write {_SWITCH}: {error.strerror}", _HINT) from error


def has_legacy_nat() -> bool:
    """Whether somebody translates addresses through the old iptables, unseen by nf_tables."""
    try:
        return "nat" in _LEGACY_TABLES.read_text().split()
    except OSError:
        return False
