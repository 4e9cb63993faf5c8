"""Images that come and go in pieces, and blocking code called from trio."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

import attrs
import trio

from qorch.progress import Progress, Report
from qorch_storage.copies import Copy, write_piece
from qorch_storage.files import NewFile
from qorch_storage.plan import ImageFormat
from qorch_storage.qemu_img import Source

_PERCENT_STEP = 10

T = TypeVar("T")
ImportFile = Callable[[Source, Copy], Awaitable[None]]


@attrs.frozen
class Download:
    """An image file that a volume was made into."""

    _fd: int
    size: int

    async def read(self, size: int) -> bytes:
        """Read some more; nothing at its end."""
        return await in_thread(os.read, self._fd, size)


@attrs.define(eq=False)
class Upload:
    """An image on its way to a volume."""

    _import_file: ImportFile
    _new: NewFile
    _at: int = 0

    async def write(self, data: bytes) -> None:
        """Take a piece."""
        self._at = await in_thread(write_piece, self._new.fd, data, self._at)

    async def make_volume(self, source_format: ImageFormat, copy: Copy) -> None:
        """Make the volume, once all is there. Raises StorageError."""
        await in_thread(os.ftruncate, self._new.fd, self._at)
        source = Source(path=self._new.path, format=source_format)
        await self._import_file(source, copy)


@asynccontextmanager
async def open_in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """A context manager that blocks, entered and left in threads."""
    value = await in_thread(manager.__enter__)
    try:
        yield value
    except BaseException as error:
        with trio.CancelScope(shield=True):
            await in_thread(manager.__exit__, type(error), error, error.__traceback__)
        raise
    else:
        await in_thread(manager.__exit__, None, None, None)


async def in_thread(function: Callable[..., T], *args: object, **options: object) -> T:
    """Call what blocks in a thread."""
    return await trio.to_thread.run_sync(functools.partial(function, *args, **options))


def tell_percent(name: str, report: Report) -> Callable[[float], None]:
    """A function for threads to say how far a copy is, each time that it has done some more."""
    told = 0

    def tell(percent: float) -> None:
        nonlocal told
        if percent >= told + _PERCENT_STEP:
            told = int(percent)
            step = f"copy data, {told} %"
            trio.from_thread.run_sync(report, Progress("volume", name, step))

    return tell
