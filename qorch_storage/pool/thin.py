"""A thin pool of LVM: volumes that take blocks as they are written, and snapshots that share them.

What its volumes may grow to can be more than the pool has. A guest that writes to a pool without
free blocks gets an error, so `find_space` tells how much is promised, and `extend` gives the pool
more of its volume group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.files import Report, ignore
from qorch_storage.info import Space, Volume
from qorch_storage.lvm.commands import find_group, run_lvm
from qorch_storage.lvm.report import LogicalVolume, VolumeGroup
from qorch_storage.names import check_lv_name
from qorch_storage.plan import ImageFormat, PoolPlan, VolumePlan
from qorch_storage.pool.base import NewVolume
from qorch_storage.pool.group import Group, Kind, check_raw, make_tag

_METADATA_FULL = 80.0  # percent: from here on, the pool's records get more room along with it


@attrs.define(eq=False)
class ThinPool:
    """A thin pool in a volume group; its thin LVs are volumes."""

    name: str
    path: Path
    thin_pool: str
    group: Group
    has_overlays = False
    default_format = ImageFormat.RAW

    @classmethod
    def from_plan(cls, plan: PoolPlan) -> ThinPool:
        """Take the pool that a plan describes; LVM is not asked yet."""
        vg, thin = plan.vg or "", plan.thin_pool or ""
        kind = Kind(
            create=lambda size: ["--type", "thin", "-V", f"{size}b", "--thinpool", f"{vg}/{thin}"],
            mine=lambda lv: lv.pool == thin,
            lack=lambda group, _size: _find_lack(group, thin),
        )
        group = Group(pool=plan.name, vg=vg, tag=make_tag(plan), kind=kind)
        return cls(plan.name, plan.path, thin, group)

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name lies; the format must be raw."""
        check_raw(self.name, image_format)
        check_lv_name(name, self.group.vg)
        return self.path / name

    def check_format(self, image_format: ImageFormat) -> None:
        """Refuse all formats but raw."""
        check_raw(self.name, image_format)

    def find_space(self) -> Space:
        """Look at the thin pool: what is written, what is promised."""
        group = find_group(self.group.vg)
        pool = _find_thin_pool(group, self.thin_pool)
        volumes = [lv for lv in group.volumes.values() if lv.pool == self.thin_pool]
        return Space(
            capacity=pool.size,
            allocation=pool.allocation,
            free=_free(pool),
            promised=sum(lv.size for lv in volumes),
            metadata_percent=pool.metadata_percent,
        )

    def find_volumes(self) -> tuple[Volume, ...]:
        """List the pool's thin LVs, whoever made them."""
        return self.group.find_volumes()

    def find_volume(self, name: str) -> Volume | None:
        """The LV of exactly that name."""
        return self.group.find_volume(name)

    def ensure_volume(self, plan: VolumePlan, *, report: Report = ignore) -> Path:
        """Make a thin LV unless it exists, at least as large as planned."""
        return self.group.ensure(plan, report)

    @contextmanager
    def open_new_volume(
        self, plan: VolumePlan, size: int, *, report: Report = ignore
    ) -> Iterator[NewVolume]:
        """Yield a thin LV to be filled; it reads as zeroes if the pool is set up so."""
        pool = _find_thin_pool(find_group(self.group.vg), self.thin_pool)
        with self.group.open_new(plan, size, report, zeroed=pool.zeroes) as new:
            yield new

    def resize_volume(self, volume: Volume, size: int, *, report: Report = ignore) -> None:
        """Make a thin LV larger or smaller; LVM rounds up."""
        old = volume.image.virtual_size if volume.image else 0
        self.group.resize(volume.name, old, size, report)

    def snapshot_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Make a thin snapshot, a volume like any other: it stays when its origin goes."""
        check_lv_name(name, self.group.vg)
        report("create snapshot")
        origin = f"{self.group.vg}/{volume.name}"
        run_lvm("lvcreate", "-y", "-s", "-kn", "-n", name, "--addtag", self.group.tag, origin)
        return self.path / name

    def rename_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Rename a thin LV."""
        return self.group.rename(volume.name, name, report)

    def remove_volume(
        self,
        name: str,
        image_format: ImageFormat,
        *,
        report: Report = ignore,
    ) -> bool:
        """Remove a thin LV that we made; return whether it existed."""
        return self.group.remove(name, report)

    def drop_volume(self, volume: Volume, *, report: Report = ignore) -> bool:
        """Remove an LV that we made."""
        return self.group.remove(volume.name, report)

    def wipe_volume(self, volume: Volume, *, report: Report = ignore) -> None:
        """Make a thin LV unreadable and remove it."""
        self.group.wipe(volume.name, report)

    def extend(self, volume: str | None, size: int, *, report: Report = ignore) -> None:
        """Give the thin pool so much more of its volume group, and its records if they are full."""
        group = find_group(self.group.vg)
        percent = _find_thin_pool(group, self.thin_pool).metadata_percent
        self.group.extend(self.thin_pool, size, report)
        if percent is not None and percent > _METADATA_FULL:
            report("extend metadata")
            more = ["--poolmetadatasize", f"+{group.extent_size}b"]
            run_lvm("lvextend", "-y", *more, f"{self.group.vg}/{self.thin_pool}")

    def remove_stale(self) -> tuple[Path, ...]:
        """Remove what makers that were killed left behind, and return it."""
        return self.group.remove_stale()


def _find_thin_pool(group: VolumeGroup, name: str) -> LogicalVolume:
    lv = group.volumes.get(name)
    if lv is None or not {"thin", "pool"} <= lv.layout:
        raise StorageError(
            f"volume group {group.name} has no thin pool {name}",
            f"make it: lvcreate --type thin-pool -L SIZE -n {name} {group.name}",
        )
    return lv


def _free(pool: LogicalVolume) -> int:
    return pool.size - pool.allocation


def _find_lack(group: VolumeGroup, name: str) -> StorageError | None:
    """A thin LV takes no room when it is made: only the pool itself can be missing."""
    try:
        _find_thin_pool(group, name)
    except StorageError as error:
        return error
    return None
