"""Disks: which images each one is, how they are opened, and where the device sits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.plan.place import Placement
from qorch.plan.storage import Storage, Volume
from qorch.plan.values import DiskPlan, RemoteImage
from qorch.spec import Aio, Cache, DiskDevice, DiskSpec, MachineSpec
from qorch.units import Name
from qorch_storage.plan import Backing, ImageFormat

_DIRECT = (Cache.NONE, Cache.DIRECTSYNC)


def plan_disks(
    name: Name, spec: MachineSpec, storage: Storage, placement: Placement
) -> Iterator[DiskPlan]:
    """The disks of one machine that nothing stands in the way of."""
    disks = []
    for index, disk in enumerate(spec.disks):
        chain, volume = _find_chain(name, index, disk, storage)
        remote = tuple(_find_remote(disk))
        if chain or remote or disk.vhost_user or is_empty(disk):
            disks.append(_plan(index, spec, disk, storage, chain, volume, remote, placement))
            if disk.device is DiskDevice.LUN and chain and not disks[-1].block_devices:
                path, hint = f"vm.{name}.disk[{index}].path", 'path = "/dev/…", or device = "disk"'
                message = f"{chain[0].path} is a file: a lun is a SCSI device of the host"
                storage.problems.append(Problem(path, message, hint, on_host=True))
    yield from _number_boot_order(disks, spec)


def is_empty(disk: DiskSpec) -> bool:
    """Whether nothing says what is in the drive."""
    given = (disk.path, disk.url, disk.volume, disk.size, disk.backing)
    return all(value is None for value in given)


def _find_chain(
    name: Name, index: int, disk: DiskSpec, storage: Storage
) -> tuple[tuple[Backing, ...], Volume | None]:
    if disk.url is not None or is_empty(disk):
        return (), None
    chain, volume = storage.find_chain(name, index, disk)
    below = [
        Backing(path=image.path, format=image.format)
        for image in disk.chain[: _count_here(disk)]
        if image.path
    ]
    return (*chain, *below), volume


def _count_here(disk: DiskSpec) -> int:
    """How many of the images below the top are of this host before one that is elsewhere."""
    elsewhere = (index for index, image in enumerate(disk.chain) if image.path is None)
    return 0 if disk.url is not None else next(elsewhere, len(disk.chain))


def _find_remote(disk: DiskSpec) -> Iterator[RemoteImage]:
    if disk.url is not None:
        yield RemoteImage(url=disk.url, format=disk.format or ImageFormat.RAW)
    for image in disk.chain[_count_here(disk) :]:
        yield RemoteImage(url=image.url, path=image.path, format=image.format)


def _plan(
    index: int,
    spec: MachineSpec,
    disk: DiskSpec,
    storage: Storage,
    chain: tuple[Backing, ...],
    volume: Volume | None,
    remote: tuple[RemoteImage, ...],
    placement: Placement,
) -> DiskPlan:
    local = [Backing(path=image.path, format=image.format) for image in remote if image.path]
    devices = find_devices((*chain, *local), storage.facts.block_devices)
    cache = choose_cache(disk, device=chain[0].path in devices) if chain else disk.cache
    return DiskPlan(
        id=f"disk{index}",
        spec=disk,
        bus=spec.find_bus(disk),
        chain=chain,
        remote=remote,
        block_devices=devices,
        read_only=disk.read_only or disk.device is DiskDevice.CDROM,
        serial=disk.serial,
        bootindex=disk.bootindex,
        cache=cache,
        aio=choose_aio(disk, cache, io_uring=storage.facts.io_uring),
        place=placement.get(f"disk{index}"),
        pool=volume and volume[0],
        volume=volume and volume[1],
    )


def find_devices(chain: tuple[Backing, ...], known: frozenset[Path]) -> tuple[Path, ...]:
    """The block devices among the images of a chain."""
    return tuple(image.path for image in chain if _is_device(image.path, known))


def _is_device(path: Path, known: frozenset[Path]) -> bool:
    """What is not there yet is a device if it is below /dev."""
    return path in known or (path.parts[:2] == ("/", "dev") and path.parts[2:3] != ("shm",))


def choose_cache(disk: DiskSpec, *, device: bool) -> Cache | None:
    """As it is said; else past the host's page cache for a block device.

    It would hold the data twice, and a write that a thin pool had no room for could be lost in it.
    """
    if disk.cache is None and (device or disk.aio is Aio.NATIVE):
        return Cache.NONE
    return disk.cache


def choose_aio(disk: DiskSpec, cache: Cache | None, *, io_uring: bool) -> Aio | None:
    """As it is said; else io_uring where the kernel lets us, Linux AIO where it does not block."""
    if disk.aio is not None:
        return disk.aio
    if io_uring:
        return Aio.IO_URING
    return Aio.NATIVE if cache in _DIRECT else None


def _number_boot_order(disks: list[DiskPlan], spec: MachineSpec) -> Iterator[DiskPlan]:
    """Disks are booted from in the order they are written, unless a kernel or an order is given."""
    groups: tuple[tuple[object, ...], ...] = (
        *(spec.disks, spec.nics, spec.hostdevs, spec.shares, spec.usb_redirs),
    )
    given = any(
        getattr(device, "bootindex", None) is not None for group in groups for device in group
    )
    auto = spec.boot.auto and spec.kernel is None and not given
    for index, disk in enumerate(disks, 1):
        yield attrs.evolve(disk, bootindex=index) if auto else disk
