"""A machine's serial console: one connection to QEMU, any number of watchers, a bounded log.

QEMU itself writes the log (`logfile=` of the chardev), so that nothing is lost while no supervisor
runs. It opens the file for appending, so that it can be cut short under it: the old part moves to
`console.log.1`. What the guest prints between the copy and the cut, some microseconds, may be lost.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import attrs
import trio

from qorch.sockets import connect_unix

_CHUNK = 1 << 16
_WATCHER_CHUNKS = 256  # 16 MiB at the most for a watcher that does not read


@attrs.define(eq=False)
class Watcher:
    """One who looks on; what he is too slow for is replaced by a note of how much it was."""

    _console: Console
    _send: trio.MemorySendChannel[bytes]
    _receive: trio.MemoryReceiveChannel[bytes]
    _missed: int = 0

    def offer_nowait(self, data: bytes) -> None:
        """Take what the guest printed, if there is room."""
        if self._missed:
            note = f"\r\n[{self._missed} bytes skipped]\r\n".encode()
            with suppress(trio.WouldBlock):
                self._send.send_nowait(note)
                self._missed = 0
        try:
            self._send.send_nowait(data)
        except trio.WouldBlock:
            self._missed += len(data)

    def end(self) -> None:
        """The console is gone."""
        self._send.close()

    async def send(self, data: bytes) -> None:
        """Type on the console."""
        await self._console.send(data)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> bytes:
        return await self._receive.__anext__()


@attrs.define(eq=False)
class Console:
    """The connection to the console's chardev."""

    _stream: trio.SocketStream
    log: Path
    log_size: int
    _written: int = 0
    _watchers: set[Watcher] = attrs.field(factory=set)
    _sending: trio.Lock = attrs.field(factory=trio.Lock)
    _ended: bool = False

    async def send(self, data: bytes) -> None:
        """Type on the console; waits while the guest does not read."""
        async with self._sending:
            await self._stream.send_all(data)

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """See what the guest prints from now on."""
        send, receive = trio.open_memory_channel[bytes](_WATCHER_CHUNKS)
        watcher = Watcher(self, send, receive)
        self._watchers.add(watcher)
        if self._ended:
            watcher.end()
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            send.close()
            receive.close()

    async def run(self) -> None:
        """Hand out what the guest prints until QEMU closes; keep the log within its size."""
        try:
            while data := await self._stream.receive_some(_CHUNK):
                for watcher in self._watchers:
                    watcher.offer_nowait(data)
                self._written += len(data)
                if self._written >= self.log_size:
                    self._written = 0
                    await trio.to_thread.run_sync(rotate_log, self.log)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._ended = True
            for watcher in self._watchers:
                watcher.end()


@asynccontextmanager
async def open_console(path: Path, log: Path, log_size: int) -> AsyncIterator[Console]:
    """Connect to the console's socket."""
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(connect_unix(path)))
    async with stream:
        yield Console(stream, log, log_size, _find_size(log))


def _find_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def rotate_log(log: Path) -> None:
    """Move a log's content to `LOG.1` and begin it anew, for a writer that appends."""
    with suppress(OSError):  # a full disk: what is old goes, what is new needs the room
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    with suppress(OSError):  # it is gone, or the file system read-only: then it grows no more
        os.truncate(log, 0)


def read_tail(path: Path, lines: int = 20, size: int = 4096) -> str:
    """The end of a log; empty if there is none."""
    text = read_end(path, size).decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def read_end(path: Path, size: int) -> bytes:
    """The last `size` bytes of a log as they are; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()
    except OSError:
        return b""
