"""Disks and drives: a chain of images as block nodes, and the device on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qorch.argv.blockdev import find_top, make_nodes
from qorch.argv.chardev import make_chardev
from qorch.argv.transport import find_transport
from qorch.handles import Handles
from qorch.plan import DiskPlan, MachinePlan
from qorch.spec import Aio, Cache, DiskBus, DiskDevice, DiskSpec, MachineFamily
from qorch.switch import Switch
from qorch.switch.base import Global
from qorch.switch.device import Device, VirtioCommon
from qorch.switch.disk import (
    BlockCommon,
    DeviceFloppy,
    DeviceIde,
    DeviceNvme,
    DeviceScsiDisk,
    DeviceScsiPassthrough,
    DeviceUsbStorage,
    DeviceVhostUserBlk,
    DeviceVirtioBlk,
    Geometry,
    IothreadVirtqueues,
)
from qorch_storage.plan import Backing, ImageFormat

_WRITE_CACHE = {
    Cache.NONE: "on",
    Cache.WRITEBACK: "on",
    Cache.UNSAFE: "on",
    Cache.WRITETHROUGH: "off",
    Cache.DIRECTSYNC: "off",
}


def make_disk(plan: MachinePlan, disk: DiskPlan, handles: Handles) -> Iterator[Switch]:
    """A disk or drive, its nodes before it."""
    if disk.spec.vhost_user is not None:
        yield from make_chardev(disk.id, disk.spec.vhost_user.backend, handles)
        yield _vhost_user(plan, disk)
        return
    yield from make_nodes(disk)
    if disk.bus is DiskBus.FLOPPY and plan.machine.family is MachineFamily.PC:
        for name, index in find_floppy_order([disk]):
            yield Global(name=f"isa-fdc.{name}", value=index)
    yield _DEVICES[disk.bus](plan, disk)


def make_seed(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """The cloud-init seed: one more disk, read-only."""
    if plan.seed is not None:
        image = Backing(path=plan.seed.path, format=ImageFormat.RAW)
        aio = next((disk.aio for disk in plan.disks if disk.aio is Aio.IO_URING), None)
        seed = DiskPlan(id="seed", chain=(image,), read_only=True, aio=aio, place=plan.seed.place)
        yield from make_disk(plan, seed, handles)


def find_floppy_order(disks: list[DiskPlan]) -> Iterator[tuple[str, int]]:
    """The boot index of a floppy drive is its controller's property, one for each drive."""
    for disk in disks:
        if disk.bus is DiskBus.FLOPPY and disk.bootindex is not None:
            yield f"bootindex{'AB'[disk.place.unit or 0]}", disk.bootindex


def _block(disk: DiskPlan) -> BlockCommon:
    spec = disk.spec
    return BlockCommon(
        drive=find_top(disk),
        bootindex=disk.bootindex,
        write_cache=_WRITE_CACHE[disk.cache] if disk.cache and not disk.is_empty else None,
        share_rw=spec.shareable or None,
        logical_block_size=_int(spec.logical_block_size),
        physical_block_size=_int(spec.physical_block_size),
        discard_granularity=_int(spec.discard_granularity),
        min_io_size=_int(spec.min_io_size),
        opt_io_size=_int(spec.opt_io_size),
        werror=spec.werror.value if spec.werror else None,
        rerror=spec.rerror.value if spec.rerror else None,
    )


def _int(value: int | None) -> int | None:
    return None if value is None else int(value)


def _geometry(disk: DiskPlan) -> Geometry:
    geometry = disk.spec.geometry
    if geometry is None:
        return Geometry()
    return Geometry(
        cyls=geometry.cylinders,
        heads=geometry.heads,
        secs=geometry.sectors,
        bios_chs_trans=geometry.translation if disk.bus in (DiskBus.IDE, DiskBus.SATA) else None,
    )


def _virtio(plan: MachinePlan, disk: DiskPlan) -> Device:
    transport, spec = find_transport(plan), disk.spec
    return DeviceVirtioBlk(
        transport=transport,
        id=f"{disk.id}-dev",
        place=disk.place,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
        block=_block(disk),
        serial=disk.serial,
        iothread=spec.iothread,
        iothread_vq_mapping=tuple(_threads(spec)) or None,
        num_queues=spec.queues,
        queue_size=spec.queue_size,
        geometry=_geometry(disk),
    )


def _threads(spec: DiskSpec) -> Iterator[IothreadVirtqueues]:
    for thread in spec.iothreads:
        queues = {"vqs": thread.queues} if thread.queues else {}
        yield {"iothread": thread.id, **queues}


def _vhost_user(plan: MachinePlan, disk: DiskPlan) -> Device:
    transport, spec = find_transport(plan), disk.spec
    return DeviceVhostUserBlk(
        transport=transport,
        id=f"{disk.id}-dev",
        place=disk.place,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
        chardev=disk.id,
        bootindex=disk.bootindex,
        num_queues=spec.queues,
        queue_size=spec.queue_size,
    )


def _scsi(plan: MachinePlan, disk: DiskPlan) -> Device:
    del plan
    spec, common = disk.spec, _block(disk)
    if spec.device is DiskDevice.LUN:
        generic = str(disk.path).startswith(("/dev/sg", "/dev/bsg"))
        return DeviceScsiPassthrough(
            model="scsi-generic" if generic else "scsi-block",
            id=f"{disk.id}-dev",
            place=disk.place,
            drive=common.drive or disk.id,
            bootindex=disk.bootindex,
            share_rw=common.share_rw,
            werror=None if generic else common.werror,
            rerror=None if generic else common.rerror,
            rotation_rate=None if generic else spec.rotation_rate,
        )
    return DeviceScsiDisk(
        model="scsi-cd" if spec.device is DiskDevice.CDROM else "scsi-hd",
        id=f"{disk.id}-dev",
        place=disk.place,
        block=common,
        serial=disk.serial,
        device_id=disk.serial,
        wwn=int(spec.wwn, 16) if spec.wwn else None,
        vendor=spec.vendor,
        product=spec.product,
        rotation_rate=spec.rotation_rate,
        removable=spec.removable,
        geometry=_geometry(disk),
    )


def _ide(plan: MachinePlan, disk: DiskPlan) -> Device:
    del plan
    spec = disk.spec
    cdrom = spec.device is DiskDevice.CDROM
    return DeviceIde(
        model="ide-cd" if cdrom else "ide-hd",
        id=f"{disk.id}-dev",
        place=disk.place,
        block=_block(disk),
        serial=disk.serial,
        wwn=int(spec.wwn, 16) if spec.wwn else None,
        product=spec.product,
        rotation_rate=None if cdrom else spec.rotation_rate,
        geometry=_geometry(disk),
    )


def _nvme(plan: MachinePlan, disk: DiskPlan) -> Device:
    del plan
    return DeviceNvme(
        id=f"{disk.id}-dev",
        place=disk.place,
        block=_block(disk),
        serial=disk.serial or disk.id,
    )


def _usb(plan: MachinePlan, disk: DiskPlan) -> Device:
    del plan
    return DeviceUsbStorage(
        id=f"{disk.id}-dev",
        place=disk.place,
        block=_block(disk),
        serial=disk.serial,
        removable=disk.spec.removable,
    )


def _floppy(plan: MachinePlan, disk: DiskPlan) -> Device:
    del plan
    common = _block(disk)
    return DeviceFloppy(
        id=f"{disk.id}-dev",
        place=disk.place,
        drive=common.drive,
        write_cache=common.write_cache,
        logical_block_size=common.logical_block_size,
        physical_block_size=common.physical_block_size,
    )


_DEVICES: dict[DiskBus, Callable[[MachinePlan, DiskPlan], Device]] = {
    DiskBus.VIRTIO: _virtio,
    DiskBus.SCSI: _scsi,
    DiskBus.SATA: _ide,
    DiskBus.IDE: _ide,
    DiskBus.NVME: _nvme,
    DiskBus.USB: _usb,
    DiskBus.FLOPPY: _floppy,
}
