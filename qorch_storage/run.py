"""Run the programs that storage needs, and show one that failed."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

from qorch_storage.errors import StorageError

_LAST_OUTPUT = 2000  # characters shown of a failed program's output
_PACKAGES = {"qemu-img": "qemu-utils"}


def run(args: Sequence[str], *, keep_fds: Sequence[int] = ()) -> str:
    """Run a program to its end and return its standard output.

    The program inherits `keep_fds`: what is locked through them stays locked until it ends, even
    if we die first. Raises StorageError with a line that can be pasted into a shell.
    """
    try:
        done = subprocess.run(
            args,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            pass_fds=keep_fds,
            env=os.environ | {"LC_ALL": "C"},
        )
    except FileNotFoundError:
        package = _PACKAGES.get(args[0], args[0])
        raise StorageError(f"{args[0]} is not installed", f"apt-get install {package}") from None
    except OSError as error:
        raise StorageError.from_os_error(f"run {args[0]}", error) from error
    if done.returncode:
        raise StorageError(_describe_failure(args, done))
    return done.stdout


def _describe_failure(args: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
    output = (done.stderr.strip() or done.stdout.strip())[-_LAST_OUTPUT:]
    ended = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
    return f"{args[0]} failed with {ended}: {output or 'no output'}\n$ {shlex.join(args)}"
