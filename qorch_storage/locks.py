"""Who has an image open: QEMU's own locks, read from outside, and the processes that hold them.

QEMU locks single bytes of an image (block/file-posix.c): from RAW_LOCK_PERM_BASE, 100, the n-th
byte stands for the n-th BLK_PERM_…, and from RAW_LOCK_SHARED_BASE, 200, for one that nobody else
may have. So byte 101 is locked by who writes, 201 by who bears no other writer. These are locks of
open file descriptions, which the kernel shows without a pid: whom one belongs to is found by
looking for a process that has the file open and locked.

So no two QEMUs write to one image, ours or not, whatever is done here. What is added is that it is
known before a QEMU is started, and that the error says who it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch_storage.errors import StorageError

_FLOCK = struct.Struct("hhxxxxqqi4x")  # struct flock
_PERM, _SHARED, _COUNT, _WRITE = 100, 200, 16, 1
_MARK = b"QORCH_OWNER="


@attrs.frozen(kw_only=True)
class Holder:
    """A process that has an image open; `machine` is the name of the one that it is."""

    pid: int
    program: str
    machine: str | None = None

    def __str__(self) -> str:
        who = f"machine {self.machine}" if self.machine else self.program
        return f"{who} (pid {self.pid})"


def is_used(path: Path) -> bool:
    """Whether a QEMU, or a qemu-img, has an image open. Raises StorageError."""
    return _conflicts(path, (_PERM, _COUNT), (_SHARED, _COUNT))


def is_writable(path: Path) -> bool:
    """Whether a QEMU could open an image for writing: nobody writes or relies on it.

    Raises StorageError.
    """
    return not _conflicts(path, (_PERM + _WRITE, 1), (_SHARED + _WRITE, 1))


def is_written(path: Path) -> bool:
    """Whether a QEMU has an image open for writing. Raises StorageError."""
    return _conflicts(path, (_PERM + _WRITE, 1))


def check_unused(path: Path) -> None:
    """Refuse an image that somebody has open. Raises StorageError, naming who it is."""
    if is_used(path):
        raise make_in_use(path)


def check_writable(path: Path) -> None:
    """Refuse an image that nobody else may write to now. Raises StorageError, naming the holder."""
    if not is_writable(path):
        raise make_in_use(path)


def check_not_written(path: Path) -> None:
    """Refuse an image that somebody writes to. Raises StorageError, naming who it is."""
    if is_written(path):
        raise make_in_use(path)


def find_holders(path: Path) -> tuple[Holder, ...]:
    """The processes that have an image open and locked, or a device open at all."""
    try:
        wanted = path.stat()
    except OSError:
        return ()
    device = not os.path.isfile(path)  # noqa: PTH113  a Path method would raise
    pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
            if any(device or _has_lock(pid, fd) for fd in _descriptors(pid, wanted)):
                found.append(_describe(pid))
    return tuple(found)


def make_in_use(path: Path) -> StorageError:
    """The error that says who has an image open."""
    holders = find_holders(path)
    names = ", ".join(map(str, holders)) or "a process of another host, or one that we may not see"
    machines = [holder.machine for holder in holders if holder.machine]
    hint = f"stop it first: qorch stop {machines[0]}" if machines else "end it, or wait for its end"
    return StorageError(f"{path} is in use by {names}", hint)


def _conflicts(path: Path, *ranges: tuple[int, int]) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError.from_os_error(f"read {path}", error) from error
    try:
        return any(_is_locked(fd, start, length) for start, length in ranges)
    except OSError:  # a file system without such locks: QEMU does without, too
        return False
    finally:
        os.close(fd)


def _is_locked(fd: int, start: int, length: int) -> bool:
    ask = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, ask))[0]
    return bool(kind != fcntl.F_UNLCK)


def _descriptors(pid: int, wanted: os.stat_result) -> Iterator[str]:
    directory = f"/proc/{pid}/fd"
    for fd in os.listdir(directory):  # noqa: PTH208  hundreds of them: no Path for each
        with contextlib.suppress(OSError):
            status = os.stat(f"{directory}/{fd}")  # noqa: PTH116
            same = (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino)
            if same or (stat.S_ISBLK(wanted.st_mode) and status.st_rdev == wanted.st_rdev):
                yield fd


def _has_lock(pid: int, fd: str) -> bool:
    return b"\nlock:" in Path(f"/proc/{pid}/fdinfo/{fd}").read_bytes()


def _describe(pid: int) -> Holder:
    program = Path(f"/proc/{pid}/comm").read_text().strip()
    machine = None
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        marks = [word for word in words if word.startswith(_MARK)]
        if marks and b":vm/" in marks[0]:
            machine = marks[0].partition(b":vm/")[2].decode(errors="replace")
    return Holder(pid=pid, program=program, machine=machine)
