"""Taps: open, plugged into their bridge, and gone when the last file descriptor closes."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qorch_net.errors import NetError
from qorch_net.netlink.links import open_links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch_net.plan import TapPlan

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000  # never somebody else's persistent tap of the same name
_DEVICE: Final = Path("/dev/net/tun")


@contextmanager
def open_tap(plan: TapPlan) -> Iterator[int]:
    """Open a tap on its bridge and give its file descriptor, to be passed on to QEMU.

    The tap is never persistent: it lives as long as a copy of the descriptor does. Leaving closes
    this copy; where it is the last one, the kernel takes some 20 ms to remove the interface.
    Raises NetError if the name is busy, the bridge is not there or taps are not allowed.
    """
    if plan.bridge is None:
        raise NetError(f"tap {plan.name} has no bridge", "this version plugs every tap in")
    device = _open_device()
    try:
        _attach(device, plan)
        try:
            with open_links() as links:
                links.join(plan.name, bridge=plan.bridge, mark=plan.mark, mtu=plan.mtu)
        except OSError as error:
            raise NetError(
                f"there is no bridge {plan.bridge} for tap {plan.name}",
                "bring its network up first",
            ) from error
        yield device
    finally:
        os.close(device)


def _open_device() -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hints = {
            errno.ENOENT: f"modprobe tun; mkdir -p /dev/net; mknod {_DEVICE} c 10 200",
            errno.ENODEV: "modprobe tun",
            errno.ENXIO: "modprobe tun",
            errno.EPERM: "the container must be allowed the device: --device /dev/net/tun",
            errno.EACCES: "run as root",
        }
        raise NetError(
            f"cannot open {_DEVICE}: {error.strerror}", hints.get(error.errno or 0)
        ) from error


def _attach(device: int, plan: TapPlan) -> None:
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_TUN_EXCL
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", plan.name.encode(), flags))
    except OSError as error:
        hints = {
            errno.EBUSY: "another QEMU may hold it: grep -l NAME /proc/[0-9]*/fdinfo/*",
            errno.EPERM: "run as root, or with CAP_NET_ADMIN in this network namespace",
        }
        hint = hints.get(error.errno or 0, "").replace("NAME", plan.name)
        raise NetError(f"cannot make tap {plan.name}: {error.strerror}", hint or None) from error
