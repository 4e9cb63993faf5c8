"""vhost-vsock: a CID is a machine's as long as its descriptor is open."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from qorch.errors import MachineError

DEVICE = "/dev/vhost-vsock"
_VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60


@contextmanager
def open_vsock(cid: int) -> Iterator[int]:
    """Reserve a CID and give the descriptor, to be passed on to QEMU.

    Raises MachineError if another guest has it, or the host has no vhost-vsock.
    """
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        message = f"{DEVICE} does not open: {error.strerror}"
        raise MachineError(message, "modprobe vhost_vsock") from error
    try:
        try:
            fcntl.ioctl(device, _VHOST_VSOCK_SET_GUEST_CID, struct.pack("=Q", cid))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                message = f"CID {cid} cannot be reserved: {error.strerror}"
                raise MachineError(message, "leave cid out: one is chosen") from error
            message = f"CID {cid} is another guest's"
            raise MachineError(message, "give another one: [vm.NAME.vsock] cid") from error
        yield device
    finally:
        os.close(device)
