"""Who else looks after the host's interfaces: NetworkManager and systemd-networkd.

Both write what they do into /run, by interface index. An index means something in one network
namespace only, and theirs is that of PID 1.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qorch_net.host import Link

_NETWORK_MANAGER: Final = "NetworkManager/devices"
_NETWORKD: Final = "systemd/netif/links"
_RUN: Final = Path("/run")
_SYS: Final = Path("/sys/class/net")


def find_managers(links: Iterable[Link]) -> dict[str, str]:
    """Find which of these interfaces are managed, and by whom."""
    return read_managers(links, _RUN) if _is_at_home() else {}


def read_managers(links: Iterable[Link], run: Path) -> dict[str, str]:
    """Read who manages what from the files under `run`."""
    found = {}
    for link in links:
        if _read(run / _NETWORK_MANAGER / str(link.index)).get("managed") == "true":
            found[link.name] = "NetworkManager"
        state = _read(run / _NETWORKD / str(link.index)).get("ADMIN_STATE", "unmanaged")
        if state != "unmanaged":
            found[link.name] = "systemd-networkd"
    return found


def find_wireless() -> frozenset[str]:
    """Find the wireless interfaces of the host."""
    if not _is_at_home():
        return frozenset()
    with suppress(OSError):
        return frozenset(x.name for x in _SYS.iterdir() if (x / "phy80211").exists())
    return frozenset()


def _is_at_home() -> bool:
    try:
        here = Path("/proc/thread-self/ns/net").readlink()
        return here == Path("/proc/1/ns/net").readlink()
    except OSError:  # hidden from us, as most is where /proc is restricted
        return True


def _read(path: Path) -> dict[str, str]:
    """The `key=value` lines of a file; nothing if it is not there."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
