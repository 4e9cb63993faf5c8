"""Disks as devices: what each bus can do, and what goes together."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from qorch.check.chardev import find_vhost_user_problems
from qorch.errors import Problem
from qorch.spec import (
    Aio,
    Cache,
    DiskBus,
    DiskDevice,
    DiskSpec,
    MachineSpec,
    ThrottleSpec,
    VirtioSpec,
)
from qorch.url import parse_url
from qorch_storage.plan import ImageFormat, find_format

_ATA = (DiskBus.SATA, DiskBus.IDE)
_NAMED = (DiskBus.SCSI, *_ATA)
_KEYS = {  # the buses that know a key
    "iothread": (DiskBus.VIRTIO,),
    "vhost_user": (DiskBus.VIRTIO,),
    "queues": (DiskBus.VIRTIO,),
    "queue_size": (DiskBus.VIRTIO,),
    "wwn": _NAMED,
    "rotation_rate": _NAMED,
    "product": _NAMED,
    "vendor": (DiskBus.SCSI,),
    "removable": (DiskBus.SCSI, DiskBus.USB),
    "geometry": (DiskBus.VIRTIO, *_NAMED),
}
_FOREIGN = {  # keys of a disk that another process makes
    *("vhost_user", "device", "bus", "address", "bootindex", "queues", "queue_size", "virtio")
}
_LONGEST_SERIAL = 36  # characters: MAX_SERIAL_LEN of SCSI; all others show the first 20
_DEVICES = {
    DiskDevice.CDROM: (DiskBus.SCSI, DiskBus.USB, *_ATA),
    DiskDevice.LUN: (DiskBus.SCSI,),
}
_MAX_QUEUE = 1024  # VIRTIO_QUEUE_MAX, VIRTQUEUE_MAX_SIZE
_LARGEST_BLOCK = 2 << 20


def find_drive_problems(vm: MachineSpec, disk: DiskSpec) -> Iterator[Problem]:
    """What is wrong with a disk's device."""
    bus = vm.find_bus(disk)
    buses = _DEVICES.get(disk.device, tuple(DiskBus))
    if bus not in buses:
        known = " or ".join(f'"{item.value}"' for item in buses)
        kind = disk.device.value
        yield Problem(".bus", f"a {kind} cannot be on {bus.value}", f"bus = {known}")
    for key, places in _KEYS.items():
        if getattr(disk, key) is not None and bus not in places:
            known = ", ".join(item.value for item in places)
            yield Problem(f".{key}", f"a disk on {bus.value} has none", f"for disks on {known}")
    if bus is not DiskBus.VIRTIO and disk.virtio != VirtioSpec():
        yield Problem(".virtio", f"a disk on {bus.value} is not virtio", 'bus = "virtio"')
    yield from _serial(disk, bus)
    yield from _image(disk)
    yield from _blocks(disk)
    yield from _numbers(disk)
    yield from _threads(vm, disk, bus)
    if disk.vhost_user is not None:
        yield from find_vhost_user_problems(vm, ".vhost_user", disk.vhost_user)
        yield from _of_another(disk)


def _threads(vm: MachineSpec, disk: DiskSpec, bus: DiskBus) -> Iterator[Problem]:
    known = {item.id for item in vm.iothreads}
    if disk.iothread is not None and disk.iothread not in known:
        yield unknown_iothread(".iothread", disk.iothread, vm)
    if not disk.iothreads:
        return
    if bus is not DiskBus.VIRTIO:
        yield Problem(".iothreads", f"a disk on {bus.value} has none", "for disks on virtio")
    if disk.iothread is not None:
        yield Problem(".iothreads", "is given with iothread", "keep one of them")
    named: list[int] = []
    for index, thread in enumerate(disk.iothreads):
        if thread.id not in known:
            yield unknown_iothread(f".iothreads[{index}].id", thread.id, vm)
        if bool(thread.queues) != bool(disk.iothreads[0].queues):
            message = "is given for some threads only"
            yield Problem(f".iothreads[{index}].queues", message, "for all of them, or for none")
        named += thread.queues
    if named and sorted(named) != list(range(disk.queues or len(named))):
        hint = f"queues = {max(named) + 1}, and each of 0 to {max(named)} once"
        yield Problem(".iothreads", "do not serve each of the disk's queues once", hint)


def _of_another(disk: DiskSpec) -> Iterator[Problem]:
    """What the process has that makes the disk, and not QEMU."""
    plain = DiskSpec()
    for field in attrs.fields(DiskSpec):
        if getattr(disk, field.name) != getattr(plain, field.name) and field.name not in _FOREIGN:
            message = "is the vhost-user process's to say"
            yield Problem(f".{field.name}", message, "leave it out")


def unknown_iothread(path: str, name: str, vm: MachineSpec) -> Problem:
    """An I/O thread that nobody has defined."""
    known = ", ".join(item.id for item in vm.iothreads)
    hint = f"known: {known}" if known else f'[[iothread]] id = "{name}" makes it'
    return Problem(path, f"there is no iothread {name!r}", hint)


def _serial(disk: DiskSpec, bus: DiskBus) -> Iterator[Problem]:
    none = disk.device is DiskDevice.LUN or bus is DiskBus.FLOPPY
    longest = 0 if none else _LONGEST_SERIAL
    if disk.serial is not None and not longest:
        yield Problem(".serial", "it has none of ours to show", "leave it out")
    elif disk.serial is not None and not 0 < len(disk.serial) <= longest:
        yield Problem(".serial", f"is not 1 to {longest} characters long", "choose a shorter one")
    if disk.wwn is not None and not re.fullmatch("(0x)?[0-9a-fA-F]{16}", disk.wwn):
        yield Problem(
            ".wwn", f"{disk.wwn!r} is not 16 hexadecimal digits", 'such as "5000c50015ea71aa"'
        )


def _image(disk: DiskSpec) -> Iterator[Problem]:
    direct = (None, Cache.NONE, Cache.DIRECTSYNC)
    if disk.aio is Aio.NATIVE and disk.cache not in direct:
        hint = 'cache = "none", or another aio'
        yield Problem(".aio", "native I/O needs a cache mode that bypasses the host's cache", hint)
    if disk.slice is not None and (disk.path or disk.url) is None:
        yield Problem(".slice", "is of an image that is there", "give path = …")
    if disk.copy_on_read and disk.read_only:
        yield Problem(".copy_on_read", "writes to an image that is read-only", "keep one of them")
    if disk.device is DiskDevice.LUN and disk.path is None:
        yield Problem(".path", "a lun is a device of the host", 'path = "/dev/…"')
    yield from _elsewhere(disk)
    kind = disk.format or (find_format(disk.path) if disk.path else None)
    locked = (None, ImageFormat.LUKS, ImageFormat.QCOW2)
    if disk.passphrase_file is not None and kind not in locked:
        yield Problem(".passphrase_file", f"{kind} images are not encrypted", 'format = "luks"')
    if kind is ImageFormat.LUKS and disk.passphrase_file is None:
        yield Problem(".passphrase_file", "is missing", "name the file that has the passphrase")


def _elsewhere(disk: DiskSpec) -> Iterator[Problem]:
    for index, url in enumerate([disk.url, *(image.url for image in disk.chain)]):
        if url is not None:
            try:
                parse_url(url)
            except ValueError as error:
                yield Problem(
                    f".chain[{index - 1}].url" if index else ".url",
                    str(error),
                    "such as https://HOST/PATH",
                )
    for index, image in enumerate(disk.chain):
        if (image.path is None) == (image.url is None):
            yield Problem(
                f".chain[{index}]", "is not one of: a path, a url", "give path = …, or url = …"
            )


def _blocks(disk: DiskSpec) -> Iterator[Problem]:
    for key in ("logical_block_size", "physical_block_size"):
        size = getattr(disk, key)
        if size is not None and not (512 <= size <= _LARGEST_BLOCK and size & (size - 1) == 0):
            yield Problem(
                f".{key}", f"{size} is no power of two from 512B to 2MiB", 'such as "512B", "4KiB"'
            )
    logical, physical = disk.logical_block_size, disk.physical_block_size
    if logical is not None and physical is not None and logical > physical:
        yield Problem(
            ".physical_block_size", f"is less than the logical one, {logical}", "the same or more"
        )
    throttle = disk.throttle
    if throttle is not None:
        yield from _limits(throttle)
        for kind in ("bps", "iops"):
            parts = [getattr(throttle, f"{kind}_{way}") for way in ("read", "write")]
            if getattr(throttle, f"{kind}_total") and any(parts):
                hint = "give the total, or one for each direction"
                yield Problem(f".throttle.{kind}_total", "is given with those of directions", hint)


def _numbers(disk: DiskSpec) -> Iterator[Problem]:
    for key in ("queues", "queue_size"):
        number = getattr(disk, key)
        if number is not None and not 0 < number <= _MAX_QUEUE:
            yield Problem(f".{key}", f"{number} is not 1 to {_MAX_QUEUE}", "leave it out")
    if disk.queue_size is not None and disk.queue_size & (disk.queue_size - 1):
        yield Problem(".queue_size", f"{disk.queue_size} is no power of two", "such as 256")
    if disk.rotation_rate is not None and not 0 <= disk.rotation_rate < 1 << 16:
        hint = "turns a minute, such as 7200; 1 is an SSD"
        yield Problem(".rotation_rate", f"{disk.rotation_rate} is not 0 to 65535", hint)


def _limits(throttle: ThrottleSpec) -> Iterator[Problem]:
    """What a burst is on top of (throttle_is_valid in util/throttle.c)."""
    for field in attrs.fields(ThrottleSpec):
        value = getattr(throttle, field.name)
        if isinstance(value, int) and value < 0:
            yield Problem(f".throttle.{field.name}", f"{value} is less than 0", "0 is no limit")
    for kind in ("bps", "iops"):
        for way in ("total", "read", "write"):
            name = f"{kind}_{way}"
            limit, burst = getattr(throttle, name) or 0, getattr(throttle, f"{name}_max") or 0
            if burst and burst < max(limit, 1):
                yield Problem(f".throttle.{name}_max", f"is less than {name}, {limit}", "more")
            elif burst and not limit:
                yield Problem(f".throttle.{name}_max", f"goes with {name}", f"{name} = …")
            if (getattr(throttle, f"{name}_max_length") or 0) > 1 and not burst:
                path = f".throttle.{name}_max_length"
                yield Problem(path, f"goes with {name}_max", f"{name}_max = …")
