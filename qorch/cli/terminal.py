"""`qorch console`: this terminal on a machine's serial port."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

    from qorch.client import Console

_CHUNK = 4096
_MOST_UNSENT = 1 << 16  # bytes typed that the guest has not taken yet


def parse_escape(text: str) -> bytes:
    """The byte of an escape key written `^]` or as the character itself; ValueError otherwise."""
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return bytes([ord(text[1].upper()) & 31])
    if len(text) == 1 and text.isascii():
        return text.encode()
    raise ValueError(f"{text!r} is no key: write ^] or one ASCII character")


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Keys go through as they are typed; the terminal is as before afterwards, SIGTERM or not."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    handlers = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(fd, termios.TCSANOW)  # what was typed already counts
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def connect(console: Console, escape: bytes, greeting: str) -> None:
    """Pass keys and output until the escape key, or until the machine ends.

    Input that is no terminal is typed to its end; the output then goes on until the machine ends.
    A guest that takes no input holds up neither its output nor the escape key: what is typed is
    kept, and a terminal's keys are dropped when it is too much.
    """
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    is_terminal = os.isatty(keyboard)
    typing = True
    with raw_terminal(keyboard):
        if is_terminal:
            print(greeting, end="\r\n", file=sys.stderr, flush=True)
        _write(screen, console.take_buffered())
        while True:
            listen = typing and (is_terminal or console.unsent < _MOST_UNSENT)
            readable, writable, _ = select.select(
                [console.fileno(), *([keyboard] if listen else [])],
                [console.keyboard_fileno()] if console.unsent else [],
                [],
            )
            if console.fileno() in readable:
                if not (data := console.read_some()):
                    return
                _write(screen, data)
            if writable:
                console.send_nowait()
            if keyboard in readable:
                typed = os.read(keyboard, _CHUNK)
                typing = bool(typed)
                before, found, _ = typed.partition(escape) if is_terminal else (typed, b"", b"")
                if console.unsent < _MOST_UNSENT:
                    console.send_nowait(before)
                if found:
                    return


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
