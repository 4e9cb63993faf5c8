"""Macvtaps: the character device behind one.

A macvtap is an interface that lasts, and a device `/dev/tap<interface index>`, which devtmpfs makes
where there is one. Indexes of different network namespaces may be the same, and containers often
have no devtmpfs: the device is known by its number, which the kernel tells under /sys/dev/char.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from qorch_net.errors import NetError

_DEVICES: Final = Path("/proc/devices")
_NUMBERS: Final = Path("/sys/dev/char")
_DEV: Final = Path("/dev")


def open_device(name: str, index: int) -> int:
    """Open the character device of the macvtap with this name and index. Raises NetError."""
    number = _find_number(name, index)
    try:
        path = _DEV / f"tap{index}"
        if _is_device(path, number):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return _open_own(name, number)
    except OSError as error:
        raise NetError(
            f"cannot open the device of macvtap {name}: {error.strerror}",
            "in a container, it must be allowed: --device-cgroup-rule 'c *:* rwm' --cap-add MKNOD",
        ) from error


def _open_own(name: str, number: int) -> int:
    """Open the device by a node of our own, which is gone at once."""
    node = _DEV / f".qorch-{name}"
    with suppress(FileNotFoundError):
        node.unlink()
    os.mknod(node, 0o600 | stat.S_IFCHR, number)
    try:
        return os.open(node, os.O_RDWR | os.O_CLOEXEC)
    finally:
        node.unlink()


def _is_device(path: Path, number: int) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == number


def _find_number(name: str, index: int) -> int:
    major = _find_major()
    for path in _NUMBERS.glob(f"{major}:*"):
        if str(path.readlink()).endswith(f"/net/{name}/macvtap/tap{index}"):
            return os.makedev(major, int(path.name.partition(":")[2]))
    raise NetError(f"there is no device for macvtap {name}", "mount sysfs at /sys")


def _find_major() -> int:
    for line in _DEVICES.read_text().splitlines():
        number, _, driver = line.strip().partition(" ")
        if driver == "macvtap":
            return int(number)
    raise NetError("this kernel has no macvtap", "modprobe macvtap")
