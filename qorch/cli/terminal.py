"""`qorch console`: this terminal on a machine's serial port."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qorch.client import Console

ESCAPE = "^]"
_CHUNK = 4096


def parse_escape(text: str) -> bytes:
    """The byte of an escape key written `^]` or as the character itself; ValueError otherwise."""
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return bytes([ord(text[1].upper()) & 31])
    if len(text) == 1 and text.isascii():
        return text.encode()
    raise ValueError(f"{text!r} is no key: write ^] or one ASCII character")


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Keys go through as they are typed; the terminal is as before afterwards."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def connect(console: Console, escape: bytes) -> None:
    """Pass keys and output until the escape key, or until the machine ends.

    Input that is no terminal is typed to its end; the output then goes on until the machine ends.
    """
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    is_terminal = os.isatty(keyboard)
    with raw_terminal(keyboard):
        os.write(screen, console.take_buffered())
        sources = [keyboard, console.fileno()]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if console.fileno() in ready:
                data = console.read_some()
                if not data:
                    return
                os.write(screen, data)
            if keyboard in ready:
                typed = os.read(keyboard, _CHUNK)
                before, found, _ = typed.partition(escape) if is_terminal else (typed, b"", b"")
                if before:
                    console.send(before)
                if found:
                    return
                if not typed:
                    sources.remove(keyboard)
