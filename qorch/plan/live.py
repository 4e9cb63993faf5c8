"""What differs between a machine that runs and what it should be, and can be changed as it runs.

That is the medium of a drive and the limits of a disk. All else waits for a restart.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from qorch.plan.values import DiskPlan, MachinePlan
from qorch.spec import DiskBus, DiskDevice, ThrottleSpec


@attrs.frozen(kw_only=True)
class LiveChange:
    """One disk of a running machine, as it is to be."""

    disk: DiskPlan
    medium: bool
    limits: bool


def find_live_changes(running: MachinePlan, wanted: MachinePlan) -> list[LiveChange] | None:
    """What makes a running machine what is wanted; None if only a restart does."""
    disks = [_adapt(*pair) for pair in zip(running.disks, wanted.disks, strict=False)]
    if attrs.evolve(running, disks=(*disks, *running.disks[len(disks) :])) != wanted:
        return None
    return list(_find_changes(running, wanted))


def _find_changes(running: MachinePlan, wanted: MachinePlan) -> Iterator[LiveChange]:
    for old, new in zip(running.disks, wanted.disks, strict=True):
        medium = old.chain != new.chain
        limits = _read_limits(old.spec.throttle) != _read_limits(new.spec.throttle)
        if medium or limits:
            yield LiveChange(disk=new, medium=medium, limits=limits)


def _adapt(old: DiskPlan, new: DiskPlan) -> DiskPlan:
    """A disk with what can be changed about it as in another one."""
    if find_group_name(old) == find_group_name(new):
        old = attrs.evolve(old, spec=attrs.evolve(old.spec, throttle=new.spec.throttle))
    if takes_media(old) and takes_media(new):
        spec = attrs.evolve(old.spec, path=new.spec.path, format=new.spec.format)
        old = attrs.evolve(old, spec=spec, chain=new.chain, block_devices=new.block_devices)
    return old


def takes_media(disk: DiskPlan) -> bool:
    """Whether it is a drive that is empty, or has an image of this host in it."""
    drive = disk.spec.device is DiskDevice.CDROM or disk.bus is DiskBus.FLOPPY
    return drive and not disk.remote and len(disk.chain) <= 1


def find_group_name(disk: DiskPlan) -> str | None:
    """The group of disks that share limits, if a disk is in one."""
    return disk.spec.throttle.group if disk.spec.throttle else None


def _read_limits(throttle: ThrottleSpec | None) -> ThrottleSpec:
    """No limits are the same whether they are given or not."""
    return throttle or ThrottleSpec()
