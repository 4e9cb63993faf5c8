"""What is wanted of storage: pools, volumes and their names. Pure: looks at no host."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path, PurePath

import attrs

from qorch_storage.errors import StorageError

SECTOR = 512
MAX_NAME = 200  # bytes: leaves room for a suffix within the 255 of a directory entry
MAX_SIZE = 2**63 - SECTOR


class ImageFormat(StrEnum):
    """How a disk's content lies in its file or device; the values are QEMU's driver names."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VDI = "vdi"
    QED = "qed"
    LUKS = "luks"


class PoolType(StrEnum):
    """What a pool's volumes are: files in a directory."""

    DIR = "dir"


_SUFFIXES = {
    ".raw": ImageFormat.RAW,
    ".iso": ImageFormat.RAW,
    ".qcow2": ImageFormat.QCOW2,
    ".vmdk": ImageFormat.VMDK,
    ".vdi": ImageFormat.VDI,
    ".qed": ImageFormat.QED,
    ".luks": ImageFormat.LUKS,
}


def find_format(name: str | PurePath) -> ImageFormat | None:
    """Return the format that a file name's suffix promises; `None` where it could be several."""
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def make_file_name(name: str, image_format: ImageFormat) -> str:
    """Return a volume's file name in a dir pool: `data` as qcow2 lies in `data.qcow2`."""
    return name if find_format(name) is image_format else f"{name}.{image_format}"


def check_volume_name(name: str) -> None:
    """Refuse a name that cannot be a volume's in every kind of pool.

    Raises StorageError.
    """
    problem = _find_name_problem(name)
    if problem:
        raise StorageError(
            f"{name!r} is not a volume name: {problem}",
            "use letters, digits and `.`, `_`, `-`, beginning with a letter or digit",
        )


def _find_name_problem(name: str) -> str | None:
    if not name:
        return "it is empty"
    if "/" in name:
        return "it contains a slash"
    if name[0] in ".-":
        return f"it begins with {name[0]!r}"
    if not name.isprintable():
        return "it contains characters that cannot be printed"
    if len(name.encode()) > MAX_NAME:
        return f"it is longer than {MAX_NAME} bytes"
    return None


def check_volume_size(size: int) -> None:
    """Refuse a size in bytes that no disk can have.

    Raises StorageError.
    """
    if size <= 0:
        raise StorageError(f"{size} bytes is not a volume size", "give a size above 0")
    if size % SECTOR:
        raise StorageError(
            f"{size} bytes is not a volume size: disks consist of {SECTOR}-byte sectors",
            f"the next possible size is {size + SECTOR - size % SECTOR} bytes",
        )
    if size > MAX_SIZE:
        raise StorageError(f"{size} bytes is more than a disk can have", f"at most {MAX_SIZE}")


def _check_name(_plan: object, _field: object, name: str) -> None:
    check_volume_name(name)


def _check_size(_plan: object, _field: object, size: int | None) -> None:
    if size is not None:
        check_volume_size(size)


@attrs.frozen(kw_only=True)
class Backing:
    """The image that an overlay builds on, and its format, which is never guessed."""

    path: Path
    format: ImageFormat


@attrs.frozen(kw_only=True)
class VolumePlan:
    """One volume as it shall be.

    `size` is in bytes and may be left out over a backing file, whose size it then takes. An
    unsuitable name or size, or neither size nor backing, raises StorageError.
    """

    pool: str
    name: str = attrs.field(validator=_check_name)
    format: ImageFormat
    size: int | None = attrs.field(default=None, validator=_check_size)
    backing: Backing | None = None

    def __attrs_post_init__(self) -> None:
        if self.size is None and self.backing is None:
            raise StorageError(f"volume {self.name} has no size", "give a size or a backing file")
        if self.backing is not None and self.format is not ImageFormat.QCOW2:
            raise StorageError(
                f"volume {self.name} has a backing file, but {self.format} volumes cannot have one",
                "make it a qcow2 volume",
            )


@attrs.frozen(kw_only=True)
class PoolPlan:
    """One pool as it shall be: a directory of image files."""

    name: str
    type: PoolType = PoolType.DIR
    path: Path

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name and format lies, whether it exists or not."""
        return self.path / make_file_name(name, image_format)
