"""A volume group of LVM: each of its logical volumes is a volume."""

from __future__ import annotations

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.info import Space
from qorch_storage.lvm.report import LogicalVolume, VolumeGroup
from qorch_storage.plan import PoolPlan
from qorch_storage.pool.group import LvmPool
from qorch_storage.pool.wanted import describe_lack


@attrs.frozen
class Linear:
    """LVs with blocks of their own, which hold what was on them before."""

    pool: str
    vg: str
    shares_blocks = False

    def make_words(self, size: int) -> list[str]:
        """What lvcreate is told; the first 4 KiB are overwritten."""
        return ["-L", f"{size}b", "-Wy", "-Zy", self.vg]

    def is_mine(self, lv: LogicalVolume) -> bool:
        """Whether it is not a thin one."""
        return lv.pool is None

    def make_space(self, group: VolumeGroup) -> Space:
        """The room of the volume group."""
        mine = [lv for lv in group.volumes.values() if lv.is_volume and lv.pool is None]
        return Space(
            capacity=group.size,
            allocation=group.size - group.free,
            free=group.free,
            promised=sum(lv.size for lv in mine),
        )

    def find_lack(self, group: VolumeGroup, size: int) -> StorageError | None:
        """It takes all its room when it is made."""
        if size <= group.free:
            return None
        return describe_lack(f"pool {self.pool}", size, group.free)

    def find_zeroed(self) -> bool:
        """Never: whatever was there is."""
        return False

    def name_growing(self, volume: str | None) -> str:
        """The volume itself."""
        if volume is None:
            raise StorageError(f"pool {self.pool} grows by vgextend only", "name a volume")
        return volume


def make_linear_pool(plan: PoolPlan) -> LvmPool:
    """Make the pool that a plan of type lvm describes."""
    return LvmPool.from_plan(plan, Linear(plan.name, plan.vg or ""))
