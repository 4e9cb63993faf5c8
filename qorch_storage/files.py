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

import ctypes
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

TEMPORARY_PREFIX = ".qorch-tmp-"
WIPE_PREFIX = ".qorch-wipe-"

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_BLOCK = 1 << 20  # bytes written at once

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
    with open_temporary_file(path.parent, report=report) as new:
        yield new
        report("sync file")
        os.fsync(new.fd)
        report("publish file")
        _publish(new.path, path, replace=replace)
        os.fsync(new.lock_fd)


@contextmanager
def open_temporary_file(directory: Path, *, report: Report = ignore) -> Iterator[NewFile]:
    """Make a file that is gone when the block ends. Raises OSError."""
    with _open_writer_lock(directory) as lock_fd:
        report("open temporary file")
        temporary = directory / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield NewFile(path=temporary, fd=fd, lock_fd=lock_fd)
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


def find_temporaries(directory: Path) -> tuple[Path, ...]:
    """Find what `remove_temporaries` and `finish_wipes` would remove. Raises OSError."""
    with suppress(FileNotFoundError), _open_directory(directory) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a writer lives
            return ()
        prefixes = (TEMPORARY_PREFIX, WIPE_PREFIX)
        return tuple(sorted(x for x in directory.iterdir() if x.name.startswith(prefixes)))
    return ()


def rename_new(old: Path, new: Path) -> None:
    """Rename a file in one step to a name that is free.

    Raises FileExistsError if it is not, other OSErrors as they come.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    words = (_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE)
    if libc.renameat2(*words):
        error = ctypes.get_errno()
        if error not in {errno.EINVAL, errno.ENOSYS}:
            raise OSError(error, os.strerror(error), str(old), None, str(new))
        new.hardlink_to(old)  # a file system that cannot: NFS
        old.unlink()
    sync_directory(new.parent)


def wipe_file(path: Path, *, report: Report = ignore) -> None:
    """Take a file's name away, overwrite what it holds with zeroes, and remove it.

    Its new, hidden name says what is to be done with it, should we be killed meanwhile:
    `finish_wipes` goes on. Raises OSError.
    """
    with _open_directory(path.parent) as lock_fd:
        fcntl.flock(lock_fd, fcntl.LOCK_SH)
        hidden = path.parent / f"{WIPE_PREFIX}{secrets.token_hex(8)}"
        report("hide volume")
        rename_new(path, hidden)
        report("wipe volume")
        _wipe(hidden)
        os.fsync(lock_fd)


def finish_wipes(directory: Path) -> tuple[Path, ...]:
    """Wipe what was being wiped by those who were killed, and return it. Raises OSError."""
    with suppress(FileNotFoundError), _open_directory(directory) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ()
        found = sorted(directory.glob(f"{WIPE_PREFIX}*"))
        for path in found:
            _wipe(path)
        return tuple(found)
    return ()


def write_zeroes(fd: int, size: int, at: int = 0) -> None:
    """Overwrite an open file or device with zeroes from `at` up to `size`; holes in a file stay.

    Raises OSError.
    """
    regular = stat.S_ISREG(os.fstat(fd).st_mode)
    while at < size:
        end = size
        if regular:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
                end = os.lseek(fd, at, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no data from here on
                    raise
                break
        _write_zeroes(fd, at, min(end, size))
        at = end
    os.fsync(fd)


def _write_zeroes(fd: int, at: int, end: int) -> None:
    block = memoryview(bytes(_BLOCK))
    while at < end:
        at += os.pwrite(fd, block[: end - at], at)


def _wipe(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        write_zeroes(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    path.unlink()


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
