"""The block nodes of a disk, from the bottom of its chain to the node that the device is on.

Names are the ids of disks: `disk0` is an image, `disk0-file` its bytes, `disk0-base1` the image
below it, `disk0-throttle` and `disk0-cor` filters above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.plan import DiskPlan
from qorch.plan.values import RemoteImage
from qorch.spec import Aio, Cache, DiskDevice, SliceSpec, ThrottleSpec
from qorch.switch import Switch
from qorch.switch.blockdev import (
    Blockdev,
    BlockdevFilter,
    BlockdevFormat,
    BlockdevProtocol,
    CacheMode,
)
from qorch.switch.object import ObjectSecret, ObjectThrottleGroup
from qorch.url import parse_url
from qorch_storage.plan import Backing, ImageFormat

_LAYERED = (ImageFormat.QCOW2, ImageFormat.QED, ImageFormat.VMDK)
_CACHES = {
    Cache.NONE: CacheMode(direct=True),
    Cache.DIRECTSYNC: CacheMode(direct=True),
    Cache.UNSAFE: CacheMode(no_flush=True),
    Cache.WRITEBACK: CacheMode(),
    Cache.WRITETHROUGH: CacheMode(),
}


@attrs.frozen
class _Image:
    """One image of a chain: its name as a node, its format, and what holds its bytes."""

    name: str
    format: ImageFormat
    driver: str
    source: dict[str, object]

    @property
    def is_local(self) -> bool:
        return self.driver in ("file", "host_device", "host_cdrom")


def find_top(disk: DiskPlan) -> str | None:
    """The node that the device is on; None for an empty drive."""
    if disk.is_empty:
        return None
    if disk.spec.copy_on_read:
        return f"{disk.id}-cor"
    return f"{disk.id}-throttle" if disk.spec.throttle else disk.id


def make_nodes(disk: DiskPlan) -> Iterator[Switch]:
    """All nodes of a disk; only the top of its chain is written to."""
    if disk.is_empty:
        return
    if (passphrase_file := _find_passphrase(disk)) is not None:
        yield ObjectSecret(id=f"{disk.id}-secret", file=passphrase_file)
    images = list(_images(disk))
    for depth in range(len(images) - 1, -1, -1):
        below = images[depth + 1].name if depth + 1 < len(images) else None
        yield _make_protocol(disk, images[depth])
        if depth == 0 and disk.spec.slice is not None:
            yield _make_slice(disk, disk.spec.slice)
        yield _make_format(disk, images[depth], below, depth)
    top = disk.id
    if disk.spec.throttle is not None:
        name = f"{disk.id}-throttle"
        group = find_group(disk, disk.spec.throttle)
        yield BlockdevFilter(node_name=name, driver="throttle", throttle_group=group, file=top)
        top = name
    if disk.spec.copy_on_read:
        yield BlockdevFilter(node_name=f"{disk.id}-cor", driver="copy-on-read", file=top)


def _images(disk: DiskPlan) -> Iterator[_Image]:
    cdrom = disk.spec.device is DiskDevice.CDROM
    images: tuple[Backing | RemoteImage, ...] = (*disk.chain, *disk.remote)
    for depth, image in enumerate(images):
        url = image.url if isinstance(image, RemoteImage) else None
        if url is not None:
            yield _Image(_name(disk, depth), image.format, *parse_url(url))
            continue
        device = "host_cdrom" if cdrom and not depth else "host_device"
        driver = device if image.path in disk.block_devices else "file"
        yield _Image(_name(disk, depth), image.format, driver, {"filename": str(image.path)})


def _find_passphrase(disk: DiskPlan) -> Path | None:
    """The disk's own, or that of the volume it is."""
    volume = disk.volume.passphrase_file if disk.volume else None
    return disk.spec.passphrase_file or volume


def _name(disk: DiskPlan, depth: int) -> str:
    return f"{disk.id}-base{depth}" if depth else disk.id


def _make_protocol(disk: DiskPlan, image: _Image) -> Blockdev:
    aio = disk.aio if image.is_local else None
    return BlockdevProtocol(
        node_name=f"{image.name}-file",
        driver=image.driver,
        cache=_CACHES.get(disk.cache) if disk.cache else None,
        read_only=True if disk.read_only else None,
        auto_read_only=None if disk.read_only else True,
        discard=_discard(disk),
        aio=None if aio in (None, Aio.THREADS) else aio.value,
        more=image.source,
    )


def _make_slice(disk: DiskPlan, part: SliceSpec) -> Blockdev:
    """A part of the bytes, for the format above to see."""
    end = {} if part.size is None else {"size": int(part.size)}
    return BlockdevFormat(
        node_name=f"{disk.id}-slice",
        driver="raw",
        file=f"{disk.id}-file",
        cache=_CACHES.get(disk.cache) if disk.cache else None,
        read_only=True if disk.read_only else None,
        discard=_discard(disk),
        more={"offset": int(part.offset), **end},
    )


def _make_format(disk: DiskPlan, image: _Image, below: str | None, depth: int) -> Blockdev:
    spec, top = disk.spec, depth == 0
    more: dict[str, object] = dict(spec.format_options) if top else {}
    if top and _find_passphrase(disk) is not None:
        secret = f"{disk.id}-secret"
        luks = image.format is ImageFormat.LUKS
        more |= (
            {"key-secret": secret}
            if luks
            else {"encrypt": {"format": "luks", "key-secret": secret}}
        )
    return BlockdevFormat(
        node_name=image.name,
        driver=image.format.value,
        file=f"{image.name}-{'slice' if top and spec.slice else 'file'}",
        backing=below,
        layered=image.format in _LAYERED,
        cache=_CACHES.get(disk.cache) if disk.cache else None,
        read_only=True if disk.read_only or not top else None,
        discard=_discard(disk) if top else None,
        detect_zeroes=spec.detect_zeroes.value if top and spec.detect_zeroes else None,
        more=more,
    )


def _discard(disk: DiskPlan) -> str | None:
    """The guest's TRIM reaches the image unless it is said otherwise."""
    if disk.spec.discard is not None:
        return disk.spec.discard.value
    return None if disk.read_only else "unmap"


def find_group(disk: DiskPlan, throttle: ThrottleSpec) -> str:
    """The throttle group of a disk: the one it names, or one of its own."""
    return f"throttle-{throttle.group}" if throttle.group else f"{disk.id}-limits"


def make_groups(disks: tuple[DiskPlan, ...]) -> Iterator[Switch]:
    """The throttle groups; the limits of a shared one are the first disk's that gives any."""
    groups: dict[str, dict[str, int]] = {}
    for disk in disks:
        if disk.spec.throttle is not None:
            limits = {
                field.name.replace("_", "-"): value
                for field in attrs.fields(ThrottleSpec)
                if isinstance(value := getattr(disk.spec.throttle, field.name), int)
            }
            name = find_group(disk, disk.spec.throttle)
            groups[name] = groups.get(name) or limits
    for name, limits in groups.items():
        yield ObjectThrottleGroup(id=name, limits=limits)
