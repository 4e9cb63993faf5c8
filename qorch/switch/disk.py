"""Disks and drives, on each bus."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from qorch.switch.device import Device, DeviceModel, DeviceVirtio


@attrs.frozen(kw_only=True)
class BlockCommon:
    """What every disk's device has; sizes in bytes."""

    drive: str | None = None
    bootindex: int | None = None
    write_cache: str | None = None
    share_rw: bool | None = None
    logical_block_size: int | None = None
    physical_block_size: int | None = None
    discard_granularity: int | None = None
    min_io_size: int | None = None
    opt_io_size: int | None = None
    werror: str | None = None
    rerror: str | None = None


@attrs.frozen(kw_only=True)
class Geometry:
    """Cylinders, heads and sectors, for guests that still ask."""

    cyls: int | None = None
    heads: int | None = None
    secs: int | None = None
    bios_chs_trans: str | None = None


IothreadVirtqueues = Mapping[str, object]
"""A thread of a disk, and perhaps the numbers of the queues that it serves (qapi/virtio.json)."""


@attrs.frozen(kw_only=True)
class DeviceVirtioBlk(DeviceVirtio):
    """`-device virtio-blk-*`."""

    block: BlockCommon
    serial: str | None = None
    iothread: str | None = None
    iothread_vq_mapping: tuple[IothreadVirtqueues, ...] | None = None
    num_queues: int | None = attrs.field(default=None, metadata={"qemu": "num-queues"})
    queue_size: int | None = None
    geometry: Geometry = Geometry()

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-blk"


@attrs.frozen(kw_only=True)
class DeviceVhostUserBlk(DeviceVirtio):
    """`-device vhost-user-blk-*`: the process behind a chardev has the disk."""

    chardev: str
    bootindex: int | None = None
    num_queues: int | None = attrs.field(default=None, metadata={"qemu": "num-queues"})
    queue_size: int | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "vhost-user-blk"


@attrs.frozen(kw_only=True)
class DeviceScsiDisk(DeviceModel):
    """`-device scsi-hd` or `scsi-cd`."""

    block: BlockCommon
    serial: str | None = None
    device_id: str | None = None
    wwn: int | None = None
    vendor: str | None = None
    product: str | None = None
    rotation_rate: int | None = None
    removable: bool | None = None
    geometry: Geometry = Geometry()


@attrs.frozen(kw_only=True)
class DeviceScsiPassthrough(DeviceModel):
    """`-device scsi-block` or `scsi-generic`: a SCSI device of the host."""

    drive: str
    bootindex: int | None = None
    share_rw: bool | None = None
    werror: str | None = None
    rerror: str | None = None
    rotation_rate: int | None = None


@attrs.frozen(kw_only=True)
class DeviceIde(DeviceModel):
    """`-device ide-hd` or `ide-cd`, on IDE and AHCI."""

    block: BlockCommon
    serial: str | None = None
    wwn: int | None = None
    product: str | None = attrs.field(default=None, metadata={"qemu": "model"})
    rotation_rate: int | None = None
    geometry: Geometry = Geometry()


@attrs.frozen(kw_only=True)
class DeviceNvme(Device):
    """`-device nvme`: a controller with one namespace."""

    block: BlockCommon
    serial: str

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "nvme"


@attrs.frozen(kw_only=True)
class DeviceUsbStorage(Device):
    """`-device usb-storage`."""

    block: BlockCommon
    serial: str | None = None
    removable: bool | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "usb-storage"


@attrs.frozen(kw_only=True)
class DeviceFloppy(Device):
    """`-device floppy`: a drive; its boot index is the controller's property."""

    drive: str | None = None
    write_cache: str | None = None
    logical_block_size: int | None = None
    physical_block_size: int | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "floppy"
