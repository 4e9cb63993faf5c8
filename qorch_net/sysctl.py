"""Settings of single interfaces under net.ipv4.conf and net.ipv6.conf.

/proc/sys/net shows the network namespace of the thread that opens it.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qorch_net.errors import NetError

if TYPE_CHECKING:
    from qorch_net.steps import Undo

_CONF: Final = Path("/proc/sys/net")
# Who takes addresses and routes from others, and whom it answers: as on the card, so on its bridge.
_INHERITED: Final = (
    *("ipv4/conf/{}/rp_filter", "ipv4/conf/{}/arp_ignore", "ipv4/conf/{}/arp_announce"),
    *("ipv6/conf/{}/disable_ipv6", "ipv6/conf/{}/accept_ra", "ipv6/conf/{}/accept_ra_defrtr"),
    *("ipv6/conf/{}/accept_ra_pinfo", "ipv6/conf/{}/autoconf", "ipv6/conf/{}/use_tempaddr"),
)
_ACCEPT_RA: Final = "ipv6/conf/{}/accept_ra"
_LOCALNET: Final = "ipv4/conf/{}/route_localnet"


def copy_settings(source: str, target: str) -> None:
    """Give an interface the settings of another one, where they can be read and written."""
    for path in _INHERITED:
        with suppress(OSError):
            value = (_CONF / path.format(source)).read_text()
            _write(path.format(target), value)


def refuse_routers(name: str) -> None:
    """Let nobody on this interface become the host's IPv6 router."""
    with suppress(OSError):
        _write(_ACCEPT_RA.format(name), "0\n")


def allow_localnet(name: str, undo: Undo, *, on: bool) -> None:
    """Let packets to and from 127.0.0.0/8 through an interface: forwarded ports need it."""
    path = _LOCALNET.format(name)
    before, after = (_CONF / path).read_text(), f"{int(on)}\n"
    if before != after:
        undo.append(partial(_put_localnet, path, before))
        _put_localnet(path, after)


def _put_localnet(path: str, value: str) -> None:
    try:
        _write(path, value)
    except OSError as error:
        raise NetError(
            f"cannot write {_CONF / path}: {error.strerror}",
            "forwarded ports need it: mount /proc/sys writable",
        ) from error


def _write(path: str, value: str) -> None:
    file = _CONF / path
    if file.read_text() != value:
        file.write_text(value)
