"""This terminal on the VM's console, for `--shell`."""

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator

import trio

from qorch.console import Watcher

CHUNK = 1 << 16


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Let keys through as they are typed, Ctrl-C too; the terminal is as before afterwards.

    Unlike that of `qorch console` it leaves signals alone, which trio is told of.
    """
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


async def connect(console: Watcher) -> None:
    """Pass keys and output until the console ends."""
    with raw_terminal(sys.stdin.fileno()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(type_on, console)
            async for data in console:
                await trio.to_thread.run_sync(write_all, sys.stdout.fileno(), data)
            nursery.cancel_scope.cancel()


async def type_on(console: Watcher) -> None:
    """Type what comes from our terminal, to its end."""
    while data := await trio.to_thread.run_sync(
        os.read, sys.stdin.fileno(), CHUNK, abandon_on_cancel=True
    ):
        await console.send(data)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it; blocking."""
    while data:
        data = data[os.write(fd, data) :]
