"""Disks: a chain of images as block nodes, and the device on top."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.transport import find_transport
from qorch.plan import DiskPlan, MachinePlan
from qorch.switch import Switch
from qorch.switch.backend import Blockdev
from qorch.switch.disk import BlockCommon, DeviceVirtioBlk
from qorch_storage.plan import Backing, ImageFormat


def make_disk(plan: MachinePlan, disk: DiskPlan) -> Iterator[Switch]:
    """The chain from the bottom up, each image a node of its own; only the top is written to."""
    names = [
        disk.id if depth == 0 else f"{disk.id}-base{depth}" for depth in range(len(disk.chain))
    ]
    for depth, image in reversed(list(enumerate(disk.chain))):
        yield Blockdev(
            node_name=names[depth],
            driver=image.format,
            filename=image.path,
            read_only=disk.read_only or depth > 0,
            backing=names[depth + 1] if depth + 1 < len(names) else None,
            discard="unmap",
        )
    yield DeviceVirtioBlk(
        transport=find_transport(plan),
        id=f"{disk.id}-dev",
        place=disk.place,
        block=BlockCommon(drive=disk.id, bootindex=disk.bootindex),
        serial=disk.serial,
    )


def make_seed(plan: MachinePlan) -> Iterator[Switch]:
    """The cloud-init seed: one more disk, read-only."""
    if plan.seed is not None:
        image = Backing(path=plan.seed.path, format=ImageFormat.RAW)
        seed = DiskPlan(id="seed", chain=(image,), read_only=True, place=plan.seed.place)
        yield from make_disk(plan, seed)
