"""What is wanted of storage: pools, volumes and their names. Pure: looks at no host."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path, PurePath

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.names import check_lv_name, check_vg_name, check_volume_name
from qorch_storage.policy import ExtendPolicy

SECTOR = 512
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
    """What a pool's volumes are: files in a directory, logical volumes, thin logical volumes."""

    DIR = "dir"
    LVM = "lvm"
    LVM_THIN = "lvm-thin"


class Preallocation(StrEnum):
    """How much of a new volume gets its place at once; the values are qemu-img's."""

    OFF = "off"
    METADATA = "metadata"
    FALLOC = "falloc"
    FULL = "full"


class Compression(StrEnum):
    """How compressed clusters of a qcow2 volume are packed."""

    ZLIB = "zlib"
    ZSTD = "zstd"


_SUFFIXES = {
    ".raw": ImageFormat.RAW,
    ".iso": ImageFormat.RAW,
    ".qcow2": ImageFormat.QCOW2,
    ".vmdk": ImageFormat.VMDK,
    ".vdi": ImageFormat.VDI,
    ".qed": ImageFormat.QED,
    ".luks": ImageFormat.LUKS,
}
_ENCRYPTED = (ImageFormat.QCOW2, ImageFormat.LUKS)
_PREALLOCATED = {
    ImageFormat.RAW: {Preallocation.OFF, Preallocation.FALLOC, Preallocation.FULL},
    ImageFormat.QCOW2: set(Preallocation),
    ImageFormat.LUKS: {Preallocation.OFF, Preallocation.FALLOC, Preallocation.FULL},
}
_CLUSTER_SIZES = {ImageFormat.QCOW2: (1 << 9, 1 << 21), ImageFormat.QED: (1 << 12, 1 << 26)}


def find_format(name: str | PurePath) -> ImageFormat | None:
    """Return the format that a file name's suffix promises; `None` where it could be several."""
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def make_file_name(name: str, image_format: ImageFormat) -> str:
    """Return a volume's file name in a dir pool: `data` as qcow2 lies in `data.qcow2`."""
    return name if find_format(name) is image_format else f"{name}.{image_format}"


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

    `size` is in bytes and may be left out over a backing file, whose size it then takes.
    `passphrase_file` has the passphrase of a volume that is encrypted (LUKS). An unsuitable name
    or size, neither size nor backing, and what does not fit together raises StorageError.
    """

    pool: str
    name: str = attrs.field(validator=_check_name)
    format: ImageFormat
    size: int | None = attrs.field(default=None, validator=_check_size)
    backing: Backing | None = None
    preallocation: Preallocation = Preallocation.OFF
    cluster_size: int | None = None
    compression: Compression | None = None
    lazy_refcounts: bool = False
    passphrase_file: Path | None = None

    def __attrs_post_init__(self) -> None:
        if self.size is None and self.backing is None:
            raise StorageError(f"volume {self.name} has no size", "give a size or a backing file")
        qcow2 = self.format is ImageFormat.QCOW2
        if self.backing is not None and not qcow2:
            raise self._refuse("has a backing file", "cannot have one", "make it a qcow2 volume")
        if (self.compression or self.lazy_refcounts) and not qcow2:
            key = "compression" if self.compression else "lazy_refcounts"
            raise self._refuse(f"has {key}", f"have no {key}", "make it a qcow2 volume")
        if self.passphrase_file is not None and self.format not in _ENCRYPTED:
            raise self._refuse("has a passphrase", "cannot be encrypted", "make it a qcow2 volume")
        if self.passphrase_file is None and self.format is ImageFormat.LUKS:
            raise self._refuse("has no passphrase", "need one", "give passphrase_file")
        self._check_allocation()

    def _check_allocation(self) -> None:
        if self.cluster_size is not None:
            low, high = _CLUSTER_SIZES.get(self.format, (0, 0))
            size = self.cluster_size
            if not low <= size <= high or size & (size - 1):
                hint = f"a power of two from {low} to {high}" if high else "leave it out"
                raise self._refuse(f"has clusters of {size} bytes", "cannot have such", hint)
        known = _PREALLOCATED.get(self.format, {Preallocation.OFF})
        if self.preallocation not in known:
            raise self._refuse(
                f"has preallocation {self.preallocation}",
                "cannot have that",
                f"possible is {', '.join(sorted(known))}",
            )
        if self.backing is not None and self.preallocation is not Preallocation.OFF:
            raise StorageError(
                f"volume {self.name} has a backing file and preallocation {self.preallocation}",
                "an overlay begins empty: leave preallocation out",
            )

    def _refuse(self, what: str, why: str, hint: str) -> StorageError:
        message = f"volume {self.name} {what}, but {self.format} volumes {why}"
        return StorageError(message, hint)


def _default_path(plan: PoolPlan) -> Path:
    return Path("/dev") / (plan.vg or "")


@attrs.frozen(kw_only=True)
class PoolPlan:
    """One pool as it shall be: a directory of image files, or a volume group of LVM.

    `path` is the directory in which its volumes appear: `/dev/VG` for LVM. `thin_pool` is the LV
    that gives thin volumes their blocks. `owner` marks what is made where names alone do not tell
    whose it is. `extend` says whether more room may be taken when it is full.

    What does not fit together raises StorageError.
    """

    name: str
    type: PoolType = PoolType.DIR
    vg: str | None = None
    thin_pool: str | None = None
    path: Path = attrs.field(default=attrs.Factory(_default_path, takes_self=True))
    owner: str = ""
    extend: ExtendPolicy | None = None

    def __attrs_post_init__(self) -> None:
        lvm = self.type is not PoolType.DIR
        if lvm and self.vg is None:
            raise StorageError(f"pool {self.name} of type {self.type} has no vg", "give vg")
        if not lvm and (self.vg is not None or self.path == Path("/dev")):
            raise StorageError(f"pool {self.name} is no directory", "give path, and no vg")
        if (self.type is PoolType.LVM_THIN) is (self.thin_pool is None):
            hint = "thin_pool belongs to type lvm-thin, and to no other"
            raise StorageError(f"pool {self.name}: {hint}", "see type")
        if self.vg is not None:
            check_vg_name(self.vg)
        if self.thin_pool is not None and self.vg is not None:
            check_lv_name(self.thin_pool, self.vg)

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name and format lies, whether it exists or not."""
        file = make_file_name(name, image_format) if self.type is PoolType.DIR else name
        return self.path / file
