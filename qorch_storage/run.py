"""Run the programs that storage needs, and show one that failed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import IO, Any

import attrs

from qorch_storage.errors import HINTS, StorageError

_LAST_OUTPUT = 2000  # characters shown of a failed program's output
_PACKAGES = {"qemu-img": "qemu-utils"} | dict.fromkeys(
    ("lvm", "lvcreate", "lvremove", "lvrename", "lvextend", "lvreduce", "lvchange"), "lvm2"
)
_SYSTEM_PATH = ":/usr/sbin:/sbin"  # LVM lies there, and not every PATH has it
_PERCENT = re.compile(rb"\(([0-9.]+)/100%\)")
# QEMU before 9.2 times its key derivation by getrusage(2), where now and then no tick was counted.
_OUT_OF_LUCK = "Unable to get accurate CPU usage"
_ATTEMPTS = 5
_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")

OnPercent = Callable[[float], None]
"""Called with 0 to 100 as work goes on."""


@attrs.frozen(kw_only=True)
class Done:
    """A program that has ended."""

    args: Sequence[str]
    status: int
    stdout: str
    stderr: str

    def error(self) -> StorageError:
        """Show it with its last words and a line that can be pasted into a shell."""
        output = (self.stderr.strip() or self.stdout.strip())[-_LAST_OUTPUT:]
        ended = f"status {self.status}" if self.status >= 0 else f"signal {-self.status}"
        line = shlex.join(self.args)
        return StorageError(
            f"{self.args[0]} failed with {ended}: {output or 'no output'}\n$ {line}",
            find_hint(output),
        )


def find_hint(words: str) -> str | None:
    """What to do, where a program's or a QEMU job's last words are the kernel's: strerror(3)."""
    found = (hint for number, hint in HINTS.items() if words.endswith(os.strerror(number)))
    return next(found, None)


def run(args: Sequence[str], *, keep_fds: Sequence[int] = ()) -> str:
    """Run a program to its end and return its standard output.

    The program inherits `keep_fds`: what is locked through them stays locked until it ends, even
    if we die first. Raises StorageError with a line that can be pasted into a shell.
    """
    done = run_unchecked(args, keep_fds=keep_fds)
    if done.status:
        raise done.error()
    return done.stdout


def run_create(args: Sequence[str], *, keep_fds: Sequence[int] = ()) -> None:
    """Run `qemu-img create` as `run` does, again where LUKS could not be timed."""
    for attempt in range(_ATTEMPTS):
        done = run_unchecked(args, keep_fds=keep_fds)
        if not done.status:
            return
        if _OUT_OF_LUCK not in done.stderr or attempt == _ATTEMPTS - 1:
            raise done.error()


def run_unchecked(args: Sequence[str], *, keep_fds: Sequence[int] = ()) -> Done:
    """Run a program to its end, however it ends. Raises StorageError if it does not start."""
    with _start(args, keep_fds=keep_fds) as child:
        stdout, stderr = child.communicate()
    return Done(
        args=args,
        status=child.returncode,
        stdout=stdout.decode(errors="replace"),
        stderr=stderr.decode(errors="replace"),
    )


def run_long(args: Sequence[str], on_percent: OnPercent, *, keep_fds: Sequence[int] = ()) -> None:
    """Run a qemu-img with `-p`, and tell how far it is. It ends with us, should we be killed.

    Raises StorageError.
    """
    with _start(args, (*_DIE_WITH_US, *args), keep_fds=keep_fds) as child:
        try:
            last = _read_percents(child.stdout, on_percent) if child.stdout else b""
        except BaseException:
            child.kill()
            raise
        stderr = child.stderr.read() if child.stderr else b""
        status = child.wait()
    if status:
        words = (stderr or last).decode(errors="replace")
        raise Done(args=args, status=status, stdout="", stderr=words).error()


def _read_percents(output: IO[bytes], on_percent: OnPercent) -> bytes:
    piece = b""
    while piece := os.read(output.fileno(), 4096):
        if found := _PERCENT.findall(piece):
            on_percent(min(float(found[-1]), 100.0))
    return piece


def _start(
    args: Sequence[str], words: Sequence[str] | None = None, *, keep_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "LC_ALL": "C",
        "LVM_SUPPRESS_FD_WARNINGS": "1",
        "PATH": os.environ.get("PATH", os.defpath) + _SYSTEM_PATH,
    }
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        return subprocess.Popen(
            words or args, stdin=subprocess.DEVNULL, pass_fds=keep_fds, env=env, **streams
        )
    except FileNotFoundError:
        package = _PACKAGES.get(args[0], args[0])
        raise StorageError(f"{args[0]} is not installed", f"apt-get install {package}") from None
    except OSError as error:
        raise StorageError.from_os_error(f"run {args[0]}", error) from error
