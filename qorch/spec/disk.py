"""What a vm.toml says about disks, media and what they are plugged into."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path

import attrs

from qorch.spec.common import AddressSpec, VhostUserSpec, VirtioSpec
from qorch.spec.storage import DEFAULT_POOL
from qorch.units import Name, Size, Value
from qorch_storage.plan import ImageFormat


class DiskBus(enum.Enum):
    """What a disk is plugged into."""

    VIRTIO = "virtio"
    SCSI = "scsi"
    SATA = "sata"
    IDE = "ide"
    NVME = "nvme"
    USB = "usb"
    FLOPPY = "floppy"


class DiskDevice(enum.Enum):
    """What a disk is to the guest; `lun` hands SCSI commands through to a host device."""

    DISK = "disk"
    CDROM = "cdrom"
    LUN = "lun"


class Cache(enum.Enum):
    """QEMU's cache modes (qemu-img(1), -t)."""

    NONE = "none"
    WRITEBACK = "writeback"
    WRITETHROUGH = "writethrough"
    DIRECTSYNC = "directsync"
    UNSAFE = "unsafe"


class Aio(enum.Enum):
    """How QEMU does I/O on the host."""

    THREADS = "threads"
    NATIVE = "native"
    IO_URING = "io_uring"


class Discard(enum.Enum):
    """Whether the guest's TRIM reaches the image."""

    UNMAP = "unmap"
    IGNORE = "ignore"


class DetectZeroes(enum.Enum):
    """Whether writes of zeroes become holes."""

    OFF = "off"
    ON = "on"
    UNMAP = "unmap"


class ErrorPolicy(enum.Enum):
    """What an I/O error does (qapi BlockdevOnError)."""

    REPORT = "report"
    IGNORE = "ignore"
    ENOSPC = "enospc"
    STOP = "stop"


@attrs.frozen(kw_only=True)
class ThrottleSpec:
    """`throttle = { … }`: limits, in bytes or requests a second; QEMU's names.

    Disks with one `group` share its limits. `*_max` is a burst, `*_max_length` its seconds.
    """

    group: str | None = None
    bps_total: int | None = None
    bps_read: int | None = None
    bps_write: int | None = None
    iops_total: int | None = None
    iops_read: int | None = None
    iops_write: int | None = None
    bps_total_max: int | None = None
    bps_read_max: int | None = None
    bps_write_max: int | None = None
    iops_total_max: int | None = None
    iops_read_max: int | None = None
    iops_write_max: int | None = None
    bps_total_max_length: int | None = None
    bps_read_max_length: int | None = None
    bps_write_max_length: int | None = None
    iops_total_max_length: int | None = None
    iops_read_max_length: int | None = None
    iops_write_max_length: int | None = None
    iops_size: int | None = None


@attrs.frozen(kw_only=True)
class GeometrySpec:
    """`geometry = { … }`: cylinders, heads and sectors, for guests that still ask."""

    cylinders: int
    heads: int
    sectors: int
    translation: str | None = None


@attrs.frozen(kw_only=True)
class DiskThreadSpec:
    """`iothreads = [{ … }]`: a thread that serves `queues` of a disk; without, its share of them.

    QEMU has had several threads for a disk since 9.0 (`iothread-vq-mapping`).
    """

    id: str
    queues: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class BackingSpec:
    """`chain = [{ … }]`: an image below a disk's own."""

    path: Path | None = None
    url: str | None = None
    format: ImageFormat


@attrs.frozen(kw_only=True)
class SliceSpec:
    """`slice = { … }`: the part of a file or device that an image is."""

    offset: Size = Size(0)
    size: Size | None = None


@attrs.frozen(kw_only=True)
class DiskSpec:
    """`[[vm.NAME.disk]]`: an image as it is (`path`), a `volume`, or a new one in a pool.

    `url` is an image elsewhere (`nbd://…`, `nbd+unix://…`, `https://…`, `iscsi://…`, `rbd:…`). A
    cdrom or floppy may have none of them: an empty drive. `passphrase_file` opens a LUKS image.
    `vhost_user` is a disk that another process makes.
    `chain` are the images below a `path`, from the top down; by default its header names them.
    """

    path: Path | None = None
    url: str | None = None
    vhost_user: VhostUserSpec | None = None
    volume: Name | None = None
    pool: Name = DEFAULT_POOL
    size: Size | None = None
    format: ImageFormat | None = None
    backing: Path | None = None
    backing_format: ImageFormat | None = None
    chain: tuple[BackingSpec, ...] = ()
    device: DiskDevice = DiskDevice.DISK
    bus: DiskBus | None = None
    address: AddressSpec | None = None
    read_only: bool = False
    shareable: bool = False
    bootindex: int | None = None
    serial: str | None = None
    wwn: str | None = None
    vendor: str | None = None
    product: str | None = None
    rotation_rate: int | None = None
    removable: bool | None = None
    cache: Cache | None = None
    aio: Aio | None = None
    discard: Discard | None = None
    detect_zeroes: DetectZeroes | None = None
    copy_on_read: bool = False
    werror: ErrorPolicy | None = None
    rerror: ErrorPolicy | None = None
    iothread: str | None = None
    iothreads: tuple[DiskThreadSpec, ...] = ()
    queues: int | None = None
    queue_size: int | None = None
    logical_block_size: Size | None = None
    physical_block_size: Size | None = None
    discard_granularity: Size | None = None
    min_io_size: Size | None = None
    opt_io_size: Size | None = None
    geometry: GeometrySpec | None = None
    slice: SliceSpec | None = None
    throttle: ThrottleSpec | None = None
    passphrase_file: Path | None = None
    format_options: Mapping[str, Value] = attrs.field(factory=dict)
    virtio: VirtioSpec = VirtioSpec()


@attrs.frozen(kw_only=True)
class ControllerSpec:
    """`[[vm.NAME.controller]]`: a controller or bridge, by QEMU's name of it.

    Those that disks, ports and devices need are made without being asked for; this is for what
    differs. `id` names it for `address.bus`; `properties` are QEMU's own.
    """

    model: str
    id: str | None = None
    address: AddressSpec | None = None
    iothread: str | None = None
    queues: int | None = None
    properties: Mapping[str, Value] = attrs.field(factory=dict)
    virtio: VirtioSpec = VirtioSpec()
