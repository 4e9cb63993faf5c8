"""A network namespace that lives as long as a file descriptor."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def open_namespace() -> Iterator[int]:
    """A new network namespace with `lo` up, as an fd; OSError without CAP_SYS_ADMIN.

    It is gone when the fd and the last process in it are.
    """
    opened: list[int | OSError] = []

    def make() -> None:  # in a thread, which alone changes its namespace, and ends
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            _raise_loopback()
            opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            opened.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (fd,) = opened
    if isinstance(fd, OSError):
        raise fd
    try:
        yield fd
    finally:
        os.close(fd)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


@contextmanager
def enter_namespace(fd: int) -> Iterator[None]:
    """Be in a network namespace, with this thread, as long as the block lasts."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, _CLONE_NEWNET))
        yield
    finally:
        _check(_libc.setns(before, _CLONE_NEWNET))
        os.close(before)
