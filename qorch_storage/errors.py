"""What can go wrong with storage, in the user's words."""

from __future__ import annotations

import errno

import attrs

HINTS = {
    errno.EACCES: "run as a user who may do that, or change the owner or mode",
    errno.EPERM: "run as a user who may do that; the file system must allow hard links",
    errno.ENOSPC: "free some space or inodes there, or choose another pool",
    errno.EDQUOT: "the disk quota is used up: free some space, or choose another pool",
    errno.EROFS: "the file system is mounted read-only: choose another place",
    errno.ENOENT: "make the directory first, or correct the path",
    errno.ENOTDIR: "a part of the path is a file: correct the path",
    errno.ENAMETOOLONG: "choose a shorter name or path",
    errno.EFBIG: "the file system cannot hold so large a file: choose another size or pool",
    errno.ELOOP: "symbolic links go round in a circle: correct the path",
}


@attrs.define(eq=False)
class StorageError(Exception):
    """The root of qorch_storage's errors: what is wrong, and what to do about it."""

    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.message

    @classmethod
    def from_os_error(cls, action: str, error: OSError) -> StorageError:
        """Say which action the kernel refused: `cannot write /pool/a.raw: File too large`."""
        return cls(f"cannot {action}: {error.strerror or error}", HINTS.get(error.errno or 0))


@attrs.define(eq=False)
class MissingError(StorageError):
    """There is no pool, or no volume, of that name."""
