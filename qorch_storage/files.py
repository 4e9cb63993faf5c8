"""Files that appear whole or not at all.

A new file is written under a temporary name in its directory, synced, and only then given its
name: by link(2), which fails where the name is taken, or by rename(2), which replaces. A failure
removes the temporary file. A SIGKILL cannot, so the next writer in that directory does, and must
then tell the leftovers of the dead from the work of the living.

That is what a lock on the *directory* is for: every writer holds it shared, and whoever gets it
exclusively, if only for a moment, knows that no writer lives and that every temporary file is
stale. flock(2) locks belong to the open file description, so they end with the process, need no
lock file, and work between the threads of one process. A qemu-img that fills the temporary file
inherits the description: should only its parent be killed, the lock holds until it ends as well.
The temporary file itself is not locked: on NFS that would shut out QEMU's own image locks.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

TEMPORARY_PREFIX = ".qorch-tmp-"

Report = Callable[[str], None]
"""Called with a step's name before the step touches the host."""


def ignore(_step: str) -> None:
    """Report to nobody."""


@attrs.frozen(kw_only=True)
class NewFile:
    """A file in the making: empty, mode 0600, under its temporary path."""

    path: Path
    fd: int
    lock_fd: int


@contextmanager
def open_new_file(
    path: Path, *, replace: bool = False, report: Report = ignore
) -> Iterator[NewFile]:
    """Make a file that gets the name `path` when the block ends without an exception.

    Raises FileExistsError if the name is taken by then, unless `replace` is true; any other
    OSError comes out as it is. In each case nothing is left.
    """
    with _open_writer_lock(path.parent) as lock_fd:
        report("open temporary file")
        temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield NewFile(path=temporary, fd=fd, lock_fd=lock_fd)
            report("sync file")
            os.fsync(fd)
            report("publish file")
            _publish(temporary, path, replace=replace)
            os.fsync(lock_fd)
        finally:
            os.close(fd)
            temporary.unlink(missing_ok=True)


def remove_temporaries(directory: Path) -> tuple[Path, ...]:
    """Remove the temporary files of dead writers; none while a writer lives. Return which.

    A missing directory has none. Raises OSError.
    """
    with suppress(FileNotFoundError), _open_directory(directory) as fd:
        return _remove_temporaries(directory, fd)
    return ()


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last through a power cut. Raises OSError."""
    with _open_directory(directory) as fd:
        os.fsync(fd)


@contextmanager
def _open_directory(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _open_writer_lock(directory: Path) -> Iterator[int]:
    with _open_directory(directory) as fd:
        _remove_temporaries(directory, fd)
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd


def _remove_temporaries(directory: Path, fd: int) -> tuple[Path, ...]:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ()
    names = [name for name in os.listdir(fd) if name.startswith(TEMPORARY_PREFIX)]
    for name in names:
        os.unlink(name, dir_fd=fd)
    return tuple(directory / name for name in names)


def _publish(temporary: Path, path: Path, *, replace: bool) -> None:
    if replace:
        temporary.rename(path)
    else:
        path.hardlink_to(temporary)
        temporary.unlink()
