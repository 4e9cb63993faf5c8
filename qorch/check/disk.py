"""Disks and volumes."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.errors import Problem
from qorch.spec import DiskBus, DiskDevice, DiskSpec, VolumeSpec
from qorch_storage.plan import ImageFormat, find_format


def find_disk_problems(disk: DiskSpec) -> Iterator[Problem]:
    """What is wrong with a disk."""
    new = disk.size is not None or disk.backing is not None
    drive = disk.device is DiskDevice.CDROM or disk.bus is DiskBus.FLOPPY
    places = (disk.path, disk.url, disk.volume, disk.vhost_user)
    named = sum(place is not None for place in places) + new
    if named > 1 or (not named and not drive):
        yield Problem(
            "",
            "is not one of: a path, a volume, or a new volume",
            "give path = …, or volume = …, or size = … and/or backing = …",
        )
    elif disk.path is not None and disk.format is None and find_format(disk.path) is None:
        yield Problem(".path", f"{disk.path.name!r} may be of any format", "give format, too")
    elif new:
        yield from _new_volume(disk)


def find_volume_problems(volume: VolumeSpec) -> Iterator[Problem]:
    """What is wrong with a volume."""
    if volume.size is None and volume.backing is None:
        yield Problem("", "has no size", "give size = … or backing = …")
    yield from _new_volume(volume)


def _new_volume(volume: DiskSpec | VolumeSpec) -> Iterator[Problem]:
    if volume.size is not None and (volume.size < 512 or volume.size % 512):
        yield Problem(
            ".size", f"{volume.size} is not a whole number of 512-byte sectors", "such as 10GiB"
        )
    if volume.backing is None:
        return
    if volume.format not in (None, ImageFormat.QCOW2):
        yield Problem(".format", f"{volume.format} images have no backing file", "use qcow2")
    if volume.backing_format is None and find_format(volume.backing) is None:
        yield Problem(
            ".backing", f"{volume.backing.name!r} may be of any format", "give backing_format, too"
        )
