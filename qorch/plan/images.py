"""Where the data of a machine's disks is, once snapshots or moves have put it elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from qorch.plan.disks import choose_aio, choose_cache, find_devices
from qorch.plan.firmware import VARIABLES
from qorch.plan.values import DiskImages, DiskPlan, MachinePlan
from qorch.spec import Aio


def keep_images(machine: MachinePlan, images: Iterable[DiskImages]) -> MachinePlan:
    """The machine with its disks' data where it is.

    What is known of a disk that is described otherwise now, by another image, does not count.
    """
    known = {(item.disk, item.origin): item for item in images}

    def keep(disk: DiskPlan) -> DiskPlan:
        item = known.get((disk.id, disk.path)) if disk.chain else None
        return keep_disk(disk, item) if item else disk

    kept = attrs.evolve(machine, disks=tuple(keep(disk) for disk in machine.disks))
    variables = machine.firmware.variables
    item = known.get((VARIABLES, variables.path)) if variables is not None else None
    return keep_variables(kept, item) if item else kept


def keep_variables(machine: MachinePlan, images: DiskImages) -> MachinePlan:
    """The machine with its UEFI variables where they are: no store is made."""
    top, *below = images.chain
    firmware = attrs.evolve(machine.firmware, variables=top, below=tuple(below), template=None)
    return attrs.evolve(machine, firmware=firmware)


def keep_disk(disk: DiskPlan, images: DiskImages) -> DiskPlan:
    """A disk with its data where it is; whether that is a device decides how it is opened."""
    devices = find_devices(images.chain, frozenset(disk.block_devices))
    cache = choose_cache(disk.spec, device=images.chain[0].path in devices)
    aio = choose_aio(disk.spec, cache, io_uring=disk.aio is Aio.IO_URING)
    return attrs.evolve(
        disk, chain=images.chain, block_devices=devices, cache=cache, aio=aio, kept=True
    )
