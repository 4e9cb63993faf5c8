"""The console log as a stream: its last lines, then what is added, across rotations.

The log is `console.log`, and before it `console.log.1`: when it is full it is renamed to that and
begun anew. Following waits for inotify(7) on the directory; there is no polling.
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
_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO = 0x002, 0x100, 0x080
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
        mask = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF
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
        files = [stack.enter_context(file) for file in _open_files(path)]
        if lines is not None:
            _seek_tail(files, lines)
        for file in files:
            await _copy(file, write)
        if follow:
            reader = _Reader(path, files[-1] if files else None)
            stack.callback(reader.close)
            while await watch.wait_change():
                await reader.copy_new(write)


@attrs.define(eq=False)
class _Reader:
    """The file that is being followed, whichever that is at the moment."""

    path: Path
    file: IO[bytes] | None

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    async def copy_new(self, write: Write) -> None:
        while True:
            await self._copy(write)
            if (successor := self._open_successor()) is None:
                return
            await self._copy(write)  # what was added to it before it was renamed
            self.close()
            self.file = successor

    async def _copy(self, write: Write) -> None:
        if self.file is not None:
            if os.fstat(self.file.fileno()).st_size < self.file.tell():
                self.file.seek(0)
            await _copy(self.file, write)

    def _open_successor(self) -> IO[bytes] | None:
        """Open the file that has taken the place of ours, if there is one."""
        try:
            successor = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
        if self.file is not None and os.path.sameopenfile(successor.fileno(), self.file.fileno()):
            successor.close()
            return None
        return successor


def _open_files(path: Path) -> list[IO[bytes]]:
    """Open what there is of the log, the oldest first."""
    files: list[IO[bytes]] = []
    for each in (path, path.with_name(path.name + ".1")):
        with contextlib.suppress(FileNotFoundError):
            files.insert(0, each.open("rb", buffering=0))
    if len(files) == 2 and os.path.sameopenfile(files[0].fileno(), files[1].fileno()):
        files.pop(0).close()  # it was renamed just now
    return files


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
