"""A thin pool of LVM: volumes that take blocks as they are written, and snapshots that share them.

What its volumes may grow to can be more than the pool has. A guest that writes to a pool without
free blocks gets an error, so `find_space` tells how much is promised, and `extend` gives the pool
more of its volume group.
"""

from __future__ import annotations

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.info import Space
from qorch_storage.lvm.commands import find_group
from qorch_storage.lvm.report import LogicalVolume, VolumeGroup
from qorch_storage.plan import PoolPlan
from qorch_storage.pool.group import LvmPool


@attrs.frozen
class Thin:
    """LVs that take their blocks from a thin pool."""

    vg: str
    thin_pool: str
    shares_blocks = True

    def make_words(self, size: int) -> list[str]:
        """What lvcreate is told."""
        return ["--type", "thin", "-V", f"{size}b", "--thinpool", f"{self.vg}/{self.thin_pool}"]

    def is_mine(self, lv: LogicalVolume) -> bool:
        """Whether its blocks come from this thin pool."""
        return lv.pool == self.thin_pool

    def make_space(self, group: VolumeGroup) -> Space:
        """The thin pool's room: what is written, what is promised."""
        pool = self._find_pool(group)
        volumes = [lv for lv in group.volumes.values() if lv.pool == self.thin_pool]
        return Space(
            capacity=pool.size,
            allocation=pool.allocation,
            free=pool.size - pool.allocation,
            promised=sum(lv.size for lv in volumes),
            metadata_percent=pool.metadata_percent,
        )

    def find_lack(self, group: VolumeGroup, _size: int) -> StorageError | None:
        """It takes no room when it is made: only the pool itself can be missing."""
        try:
            self._find_pool(group)
        except StorageError as error:
            return error
        return None

    def find_zeroed(self) -> bool:
        """If the pool is set up so, as it is by default."""
        return self._find_pool(find_group(self.vg)).zeroes

    def name_growing(self, _volume: str | None) -> str:
        """The pool, which is what is full."""
        return self.thin_pool

    def _find_pool(self, group: VolumeGroup) -> LogicalVolume:
        lv = group.volumes.get(self.thin_pool)
        if lv is None or not {"thin", "pool"} <= lv.layout:
            raise StorageError(
                f"volume group {group.name} has no thin pool {self.thin_pool}",
                f"make it: lvcreate --type thin-pool -L SIZE -n {self.thin_pool} {group.name}",
            )
        return lv


def make_thin_pool(plan: PoolPlan) -> LvmPool:
    """Make the pool that a plan of type lvm-thin describes."""
    return LvmPool.from_plan(plan, Thin(plan.vg or "", plan.thin_pool or ""))
