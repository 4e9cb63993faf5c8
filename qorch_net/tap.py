"""Taps and macvtaps: open, plugged in and limited as planned.

A tap is gone when its last file descriptor closes. A macvtap is not, nor is the ifb that what a
limited guest sends is led through: `remove_tap` removes them, and whoever comes after a SIGKILL
finds them by their mark (`remove_orphan_taps`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from qorch_net.errors import NetError
from qorch_net.macvtap import open_device
from qorch_net.netlink.links import Links, open_links
from qorch_net.plug import create_macvtap, plug, remove_lasting, replug
from qorch_net.steps import ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from qorch_net.plan import TapPlan
    from qorch_net.steps import Report

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000  # never somebody else's persistent tap of the same name
_DEVICE: Final = Path("/dev/net/tun")
_VHOST: Final = Path("/dev/vhost-net")


@attrs.frozen
class OpenTap:
    """The file descriptors of a tap, one for each queue, and as many of vhost-net, or none."""

    queues: tuple[int, ...]
    vhosts: tuple[int, ...] = ()


@contextmanager
def open_tap(plan: TapPlan) -> Iterator[OpenTap]:
    """Open a tap, plug it in and give its file descriptors, to be passed on to QEMU.

    Leaving closes these copies. Where they are the last ones, the kernel takes some 20 ms to remove
    a tap. Raises NetError if the name is busy, the bridge is not there or taps are not allowed;
    nothing is left then.
    """
    with ExitStack() as stack:
        vhosts = tuple(_open(stack, _open_vhost) for _ in range(plan.queues if plan.vhost else 0))
        if plan.macvtap:
            queues = _open_macvtap(plan, stack)
        else:
            queues = _open_queues(plan, stack, lambda: _open_device(_DEVICE))
        if not plan.persistent:
            with open_links() as links, _removing(plan, links):
                plug(plan, links)
        yield OpenTap(queues=queues, vhosts=vhosts)


def replug_taps(plans: Iterable[TapPlan], report: Report = ignore) -> None:
    """Plug open taps in again that are in no bridge though planned: theirs was made anew.

    Taps that are not open, or in some bridge, are left alone. Raises NetError.
    """
    with open_links() as links:
        replug(plans, links, report)


def remove_tap(plan: TapPlan) -> None:
    """Remove what of a tap lasts, if it is there."""
    if plan.lasts:
        with open_links() as links:
            remove_lasting(links, lambda mark: mark == plan.mark)


def remove_orphan_taps(
    owner: str, *, keep: Collection[str], report: Report = ignore
) -> tuple[str, ...]:
    """Remove what lasts of an owner's taps, unless their labels are in `keep`; give labels."""
    with open_links() as links:
        gone = remove_lasting(
            links, lambda mark: mark.owner == owner and mark.label not in keep, report
        )
    return tuple(sorted({mark.label for mark in gone}))


def remove_taps_of(owner: str, labels: Collection[str]) -> None:
    """Remove what lasts of an owner's taps with these labels."""
    if labels:
        with open_links() as links:
            remove_lasting(links, lambda mark: mark.owner == owner and mark.label in labels)


@contextmanager
def _removing(plan: TapPlan, links: Links) -> Iterator[None]:
    """Remove what would last if the tap cannot be plugged in."""
    try:
        yield
    except BaseException:
        if plan.lasts:
            remove_lasting(links, lambda mark: mark == plan.mark)
        raise


def _open(stack: ExitStack, opening: Callable[[], int]) -> int:
    descriptor = opening()
    stack.callback(os.close, descriptor)
    return descriptor


def _open_macvtap(plan: TapPlan, stack: ExitStack) -> tuple[int, ...]:
    with open_links() as links:
        index = create_macvtap(plan, links)
        with _removing(plan, links):
            return _open_queues(plan, stack, lambda: open_device(plan.name, index))


def _open_queues(plan: TapPlan, stack: ExitStack, opening: Callable[[], int]) -> tuple[int, ...]:
    queues = []
    for number in range(plan.queues):
        queue = _open(stack, opening)
        _attach(queue, plan, first=number == 0)
        queues.append(queue)
    return tuple(queues)


def _open_device(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hints = {
            errno.ENOENT: f"modprobe tun; mkdir -p /dev/net; mknod {path} c 10 200",
            errno.ENODEV: "modprobe tun",
            errno.ENXIO: "modprobe tun",
            errno.EPERM: "the container must be allowed the device: --device /dev/net/tun",
            errno.EACCES: "run as root",
        }
        raise NetError(
            f"cannot open {path}: {error.strerror}", hints.get(error.errno or 0)
        ) from error


def _open_vhost() -> int:
    try:
        return os.open(_VHOST, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise NetError(
            f"cannot open {_VHOST}: {error.strerror}", "modprobe vhost_net, or go without vhost"
        ) from error


def _attach(descriptor: int, plan: TapPlan, *, first: bool) -> None:
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    flags |= _IFF_MULTI_QUEUE if plan.queues > 1 else 0
    flags |= _IFF_TUN_EXCL if first and not plan.persistent and not plan.macvtap else 0
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", plan.name.encode(), flags))
    except OSError as error:
        hints = {
            errno.EBUSY: "another QEMU may hold it: grep -l NAME /proc/[0-9]*/fdinfo/*",
            errno.EPERM: "run as root, or with CAP_NET_ADMIN in this network namespace",
            errno.EINVAL: f"it may have been made for {_other(plan)}",
        }
        hint = hints.get(error.errno or 0, "").replace("NAME", plan.name)
        raise NetError(f"cannot make tap {plan.name}: {error.strerror}", hint or None) from error


def _other(plan: TapPlan) -> str:
    return "one queue" if plan.queues > 1 else "several queues"
