"""Writes cpio archives in the "newc" format, which the kernel unpacks as its first root.

The same files give the same bytes: everything belongs to root, times are 0, inode numbers count
from 1. Device nodes are just entries, so nobody has to be root to make one.
"""

import dataclasses
import io
import stat
from pathlib import PurePosixPath

MAGIC = b"070701"
FIELDS = 13
TRAILER = "TRAILER!!!"
ALIGNMENT = 4
BLOCK = 512


@dataclasses.dataclass(kw_only=True)
class Archive:
    """A cpio archive in the making. Missing parent directories are added on the way."""

    _out: io.BytesIO = dataclasses.field(default_factory=io.BytesIO)
    _names: set[str] = dataclasses.field(default_factory=set)

    def add_directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory, unless it is there."""
        if name not in self._names:
            self._add(name, stat.S_IFDIR | mode, links=2)

    def add_file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(name, stat.S_IFREG | mode, data)

    def add_symlink(self, name: str, target: str) -> None:
        """Add a symbolic link to `target`, which is stored as it is."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def add_character_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a node of a character device."""
        self._add(name, stat.S_IFCHR | mode, device=(major, minor))

    def finish(self) -> bytes:
        """Return the whole archive. Nothing can be added afterwards."""
        self._write(TRAILER, 0, 0, b"", 1, (0, 0))
        self._pad(BLOCK)
        return self._out.getvalue()

    def _add(
        self,
        name: str,
        mode: int,
        data: bytes = b"",
        links: int = 1,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        if name in self._names:
            raise ValueError(f"{name} is in the archive already")
        parent = str(PurePosixPath(name).parent)
        if parent != ".":
            self.add_directory(parent)
        self._names.add(name)
        self._write(name, len(self._names), mode, data, links, device)

    def _write(
        self, name: str, inode: int, mode: int, data: bytes, links: int, device: tuple[int, int]
    ) -> None:
        encoded = name.encode() + b"\0"
        uid = gid = mtime = checksum = 0
        file_system = (0, 0)
        fields = (inode, mode, uid, gid, links, mtime, len(data), *file_system, *device)
        header = b"%08X" * FIELDS % (*fields, len(encoded), checksum)
        self._out.write(MAGIC + header + encoded)
        self._pad(ALIGNMENT)
        self._out.write(data)
        self._pad(ALIGNMENT)

    def _pad(self, multiple: int) -> None:
        self._out.write(bytes(-self._out.tell() % multiple))
