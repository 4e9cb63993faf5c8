"""The console log as a stream: its last lines, then what is added, across rotations.

QEMU appends to `console.log`; when that is full, the supervisor copies it to `console.log.1` and
cuts it to nothing. A follower that finds the log shorter than what it has read therefore finds what
it missed at the same place of the copy. One who is slower than the guest fills a whole log does not
find it shorter, and misses what was there. Following waits for inotify(7); there is no polling.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from typing import IO, TYPE_CHECKING

import attrs
import trio

from qorch.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Write = Callable[[bytes], Awaitable[None]]

_CHUNK = 1 << 16
# <sys/inotify.h>
_IN_MODIFY, _IN_CREATE, _IN_DELETE = 0x002, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_IGNORED = 0x400, 0x800, 0x8000
_IN_ONLYDIR = 0x1000000
_GONE = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_IGNORED
_HEADER = struct.Struct("iIII")


@attrs.define(eq=False)
class _Watch:
    fd: int

    async def wait_change(self) -> bool:
        """Wait until something happens in the directory; False if it is gone."""
        await trio.lowlevel.wait_readable(self.fd)
        events = os.read(self.fd, 1 << 16)
        position, seen = 0, 0
        while position < len(events):
            _, mask, _, length = _HEADER.unpack_from(events, position)
            seen |= mask
            position += _HEADER.size + length
        return not seen & _GONE


@contextlib.contextmanager
def open_watch(directory: Path) -> Iterator[_Watch]:
    """Watch a directory for files that change or come. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise _os_error(directory)
    try:
        mask = _IN_MODIFY | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF
        if libc.inotify_add_watch(fd, os.fsencode(directory), mask | _IN_ONLYDIR) < 0:
            raise _os_error(directory)
        yield _Watch(fd)
    finally:
        os.close(fd)


def _os_error(path: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(path))


async def write_log(path: Path, write: Write, *, lines: int | None, follow: bool) -> None:
    """Write the last lines of a log (all if None) and, with `follow`, what is added to it.

    Following ends when the machine's directory is removed. Raises NotFoundError if there is none.
    """
    with contextlib.ExitStack() as stack:
        if follow:
            try:
                watch = stack.enter_context(open_watch(path.parent))
            except FileNotFoundError:
                raise NotFoundError(f"there is no {path} yet") from None
        log, old = _open(path), _open(_old(path))
        files = [stack.enter_context(file) for file in (old, log) if file is not None]
        if lines is not None:
            _seek_tail(files, lines)
        for file in files:
            await _copy(file, write)
        while follow and await watch.wait_change():
            if log is None and (log := _open(path)) is not None:
                stack.enter_context(log)
            if log is not None:
                await _copy_new(log, path, write)
                if not os.fstat(log.fileno()).st_nlink:
                    log.close()  # an open file keeps the directory's end from being told
                    log = None


async def _copy_new(log: IO[bytes], path: Path, write: Write) -> None:
    position = log.tell()
    if os.fstat(log.fileno()).st_size < position:
        if (old := _open(_old(path))) is not None:
            with old:
                old.seek(position)
                await _copy(old, write)
        log.seek(0)
    await _copy(log, write)


def _old(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _open(path: Path) -> IO[bytes] | None:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return None


def _seek_tail(files: list[IO[bytes]], lines: int) -> None:
    """Move each file to where the last lines of them all start."""
    for file in reversed(files):
        lines -= _seek_file_tail(file, lines)


def _seek_file_tail(file: IO[bytes], lines: int) -> int:
    """Move to where the last lines start, and count those there are."""
    position = end = file.seek(0, os.SEEK_END)
    found = 0
    while position and lines:
        start = max(0, position - _CHUNK)
        file.seek(start)
        block = file.read(position - start)
        index = len(block)
        while (index := block.rfind(b"\n", 0, index)) >= 0:
            if start + index + 1 < end:  # what ends the last line starts no other
                found += 1
                if found == lines:
                    file.seek(start + index + 1)
                    return found
        position = start
    file.seek(0 if lines else end)
    return found + 1 if lines and end else 0


async def _copy(file: IO[bytes], write: Write) -> None:
    while data := file.read(_CHUNK):
        await write(data)
