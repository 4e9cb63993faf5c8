"""A volume group of LVM: each of its logical volumes is a volume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.files import Report, ignore
from qorch_storage.info import Space, Volume
from qorch_storage.lvm.commands import find_group
from qorch_storage.lvm.report import VolumeGroup
from qorch_storage.names import check_lv_name
from qorch_storage.plan import ImageFormat, PoolPlan, VolumePlan
from qorch_storage.pool.base import NewVolume
from qorch_storage.pool.group import Group, Kind, check_raw, make_tag
from qorch_storage.pool.wanted import describe_lack


@attrs.define(eq=False)
class LvmPool:
    """A volume group, each of whose LVs is a volume."""

    name: str
    path: Path
    group: Group
    has_overlays = False
    default_format = ImageFormat.RAW

    @classmethod
    def from_plan(cls, plan: PoolPlan) -> LvmPool:
        """Take the pool that a plan describes; LVM is not asked yet."""
        vg = plan.vg or ""
        kind = Kind(
            create=lambda size: ["-L", f"{size}b", "-Wy", "-Zy", vg],
            mine=lambda lv: lv.pool is None,
            lack=lambda group, size: _find_lack(plan.name, group, size),
        )
        group = Group(pool=plan.name, vg=vg, tag=make_tag(plan), kind=kind)
        return cls(plan.name, plan.path, group)

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name lies; the format must be raw."""
        check_raw(self.name, image_format)
        check_lv_name(name, self.group.vg)
        return self.path / name

    def check_format(self, image_format: ImageFormat) -> None:
        """Refuse all formats but raw."""
        check_raw(self.name, image_format)

    def find_space(self) -> Space:
        """Look at the volume group."""
        group = find_group(self.group.vg)
        mine = [lv for lv in group.volumes.values() if lv.is_volume and lv.pool is None]
        return Space(
            capacity=group.size,
            allocation=group.size - group.free,
            free=group.free,
            promised=sum(lv.size for lv in mine),
        )

    def find_volumes(self) -> tuple[Volume, ...]:
        """List the LVs that are not thin ones, whoever made them."""
        return self.group.find_volumes()

    def find_volume(self, name: str) -> Volume | None:
        """The LV of exactly that name."""
        return self.group.find_volume(name)

    def ensure_volume(self, plan: VolumePlan, *, report: Report = ignore) -> Path:
        """Make an LV unless it exists, at least as large as planned; LVM rounds sizes up."""
        return self.group.ensure(plan, report)

    @contextmanager
    def open_new_volume(
        self, plan: VolumePlan, size: int, *, report: Report = ignore
    ) -> Iterator[NewVolume]:
        """Yield an LV to be filled; what it held before is still on it."""
        with self.group.open_new(plan, size, report, zeroed=False) as new:
            yield new

    def resize_volume(self, volume: Volume, size: int, *, report: Report = ignore) -> None:
        """Make an LV larger or smaller; LVM rounds up."""
        old = volume.image.virtual_size if volume.image else 0
        self.group.resize(volume.name, old, size, report)

    def snapshot_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Refuse: a snapshot of such an LV copies each block before it is written."""
        raise StorageError(
            f"pool {self.name} has no thin snapshots",
            "use a pool of type lvm-thin, or a linked clone in a dir pool",
        )

    def rename_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Rename an LV."""
        return self.group.rename(volume.name, name, report)

    def remove_volume(
        self,
        name: str,
        image_format: ImageFormat,
        *,
        report: Report = ignore,
    ) -> bool:
        """Remove an LV that we made; return whether it existed."""
        return self.group.remove(name, report)

    def drop_volume(self, volume: Volume, *, report: Report = ignore) -> bool:
        """Remove an LV that we made."""
        return self.group.remove(volume.name, report)

    def wipe_volume(self, volume: Volume, *, report: Report = ignore) -> None:
        """Overwrite an LV with zeroes and remove it."""
        self.group.wipe(volume.name, report)

    def extend(self, volume: str | None, size: int, *, report: Report = ignore) -> None:
        """Make an LV larger by so much."""
        if volume is None:
            raise StorageError(f"pool {self.name} grows by vgextend only", "name a volume")
        self.group.extend(volume, size, report)

    def remove_stale(self) -> tuple[Path, ...]:
        """Remove what makers that were killed left behind, and return it."""
        return self.group.remove_stale()


def _find_lack(pool: str, group: VolumeGroup, size: int) -> StorageError | None:
    return describe_lack(f"pool {pool}", size, group.free) if size > group.free else None
