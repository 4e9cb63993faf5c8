"""A pool in a volume group: LVs that are made, changed and removed, whatever their kind.

What tells the kinds apart is in lvm.py and thin.py. All volumes here are raw. A volume that we made
carries a tag, `qorch:OWNER`. LVs without it are somebody else's: they are listed and can be used as
disks, but never changed.

LVM's own metadata is the journal: each command of LVM happens as a whole or not at all. So a volume
that begins empty is made by one command; one that is to be filled is made as `qorch-tmp-…` and
renamed when it is complete, and one that is to be wiped is renamed to `qorch-wipe-…` first.
`remove_stale` ends what was killed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.files import Report, ignore, write_zeroes
from qorch_storage.image import find_image
from qorch_storage.info import ImageInfo, Space, Volume
from qorch_storage.locks import make_in_use
from qorch_storage.lvm.commands import find_group, open_group_lock, run_lvm, try_group_lock
from qorch_storage.lvm.report import LogicalVolume, VolumeGroup
from qorch_storage.names import check_lv_name
from qorch_storage.plan import ImageFormat, PoolPlan, Preallocation, VolumePlan
from qorch_storage.policy import ExtendPolicy, decide_extension
from qorch_storage.pool.base import NewVolume, clear_errors, taken
from qorch_storage.pool.kind import Kind
from qorch_storage.pool.wanted import check_same

TEMPORARY_PREFIX = "qorch-tmp-"
WIPE_PREFIX = "qorch-wipe-"
_METADATA_FULL = 80.0  # percent: from here on, a thin pool's records get more room along with it


@attrs.define(eq=False)
class LvmPool:
    """A volume group whose LVs of one kind are volumes."""

    name: str
    path: Path
    vg: str
    tag: str
    kind: Kind
    has_overlays = False
    default_format = ImageFormat.RAW

    @classmethod
    def from_plan(cls, plan: PoolPlan, kind: Kind) -> LvmPool:
        """Take the pool that a plan describes; LVM is not asked yet."""
        tag = f"qorch:{plan.owner}" if plan.owner else "qorch"
        return cls(plan.name, plan.path, plan.vg or "", tag, kind)

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name lies when it is active; the format must be raw."""
        self.check_format(image_format)
        check_lv_name(name, self.vg)
        return self.path / name

    def check_format(self, image_format: ImageFormat) -> None:
        """Refuse all formats but raw."""
        if image_format is not ImageFormat.RAW:
            raise StorageError(
                f"pool {self.name} holds logical volumes, which are raw, not {image_format}",
                "give format raw, or use a dir pool",
            )

    def find_space(self) -> Space:
        """Look how much room there is."""
        return self.kind.make_space(find_group(self.vg))

    def find_zeroed(self) -> bool:
        """Look whether new LVs read as zeroes."""
        return self.kind.find_zeroed()

    def find_volumes(self) -> tuple[Volume, ...]:
        """List the LVs of the kind by name, whoever made them."""
        group = find_group(self.vg)
        return tuple(
            self._describe(lv)
            for _name, lv in sorted(group.volumes.items())
            if lv.is_volume and self.kind.is_mine(lv) and not _is_hidden(lv.name)
        )

    def find_volume(self, name: str) -> Volume | None:
        """An LV: by its device if it is active, and else as LVM knows it."""
        check_lv_name(name, self.vg)
        image = None if _is_hidden(name) else find_image(self.path / name, ImageFormat.RAW)
        if image is None:
            return next((lv for lv in self.find_volumes() if lv.name == name), None)
        return Volume(
            name=name, path=image.path, format=ImageFormat.RAW, image=image, pool=self.name
        )

    def ensure_volume(self, plan: VolumePlan, *, report: Report = ignore) -> Path:
        """Make an LV unless it is there, at least as large as planned; LVM rounds sizes up.

        The one command that makes it tells whether it is.
        """
        self.check_format(plan.format)
        check_lv_name(plan.name, self.vg)
        path = self.path / plan.name
        if not path.exists():
            if plan.preallocation is Preallocation.FULL:
                return self._make_zeroed(plan, report)
            try:
                report("create logical volume")
                self._create(plan.name, _size_of(plan))
            except StorageError as error:
                self._take_existing(plan, error)
            else:
                return path
        image = find_image(path, ImageFormat.RAW)
        if image is None:
            raise StorageError(f"{path} did not appear", "see lvs, dmesg")
        check_same(image, plan)
        return path

    @contextmanager
    def open_new_volume(
        self, plan: VolumePlan, size: int, *, report: Report = ignore
    ) -> Iterator[NewVolume]:
        """Make an LV under a temporary name; the block's end gives it its own.

        One that is not thin holds what was on its blocks before.
        """
        self.check_format(plan.format)
        check_lv_name(plan.name, self.vg)
        if (self.path / plan.name).exists():
            raise taken(self.path / plan.name)
        zeroed = self.find_zeroed()
        temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        with open_group_lock(self.vg) as lock_fd:
            report("create logical volume")
            try:
                self._create(temporary, size)
            except StorageError as error:
                raise self._explain(size, error) from error
            try:
                yield NewVolume(
                    path=self.path / temporary, keep_fds=(lock_fd,), device=True, zeroed=zeroed
                )
                report("sync logical volume")
                _sync(self.path / temporary)
                report("rename logical volume")
                self._publish(temporary, plan.name)
            except BaseException:
                run_lvm("lvremove", "-y", f"{self.vg}/{temporary}")
                raise

    def resize_volume(self, volume: Volume, size: int, *, report: Report = ignore) -> None:
        """Make an LV of ours larger or smaller; LVM rounds up."""
        old = volume.image.virtual_size if volume.image else 0
        self._require_ours(volume.name)
        report("resize logical volume")
        target = f"{self.vg}/{volume.name}"
        if size < old:
            run_lvm("lvreduce", "-f", "-y", "-L", f"{size}b", target)
            return
        try:
            run_lvm("lvextend", "-y", "-L", f"{size}b", target)
        except StorageError as error:
            raise self._explain(size - old, error) from error

    def snapshot_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Make a thin snapshot, a volume like any other: it stays when its origin goes.

        All that was written to the origin is in it. Where there are none, it is refused: a snapshot
        of an LV that is not thin copies each block before it is written.
        """
        if not self.kind.shares_blocks:
            raise StorageError(
                f"pool {self.name} has no thin snapshots",
                "use a pool of type lvm-thin, or a linked clone in a dir pool",
            )
        check_lv_name(name, self.vg)
        report("create snapshot")
        if volume.path.exists():
            _sync(volume.path)  # what is only in the host's page cache is not in the snapshot
        origin = f"{self.vg}/{volume.name}"
        run_lvm("lvcreate", "-y", "-s", "-kn", "-n", name, "--addtag", self.tag, origin)
        return self.path / name

    def rename_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Rename an LV of ours."""
        check_lv_name(name, self.vg)
        if volume.name != name:
            self._require_ours(volume.name)
            report("rename logical volume")
            self._publish(volume.name, name)
        return self.path / name

    def remove_volume(
        self, name: str, image_format: ImageFormat, *, report: Report = ignore
    ) -> bool:
        """Remove an LV of ours that nothing builds on, in one command; whether it was there."""
        self.check_format(image_format)
        check_lv_name(name, self.vg)
        was_active = (self.path / name).exists()
        if not was_active and name not in find_group(self.vg).volumes:
            return False
        report("remove logical volume")
        ours = f'tags="{self.tag}" && lv_name="{name}" && lv_attr=~"^[-V]"'  # no origin of a COW
        try:
            run_lvm("lvremove", "-y", "-S", ours, self.vg)
        except StorageError:
            lv = find_group(self.vg).volumes.get(name)
            if lv is not None and lv.open:
                raise make_in_use(self.path / name) from None
            raise
        if was_active and not (self.path / name).exists():
            return True
        if name in find_group(self.vg).volumes:
            self._require_ours(name)
            raise StorageError(
                f"volume {name} has snapshots in {self.vg}", f"remove them first: see lvs {self.vg}"
            )
        return True

    def drop_volume(self, volume: Volume, *, report: Report = ignore) -> bool:
        """Remove an LV of ours that was found."""
        return self.remove_volume(volume.name, volume.format or ImageFormat.RAW, report=report)

    def wipe_volume(self, volume: Volume, *, report: Report = ignore) -> None:
        """Take an LV's name away, overwrite it, and remove it."""
        zeroes = self._require_ours(volume.name).zeroes
        hidden = f"{WIPE_PREFIX}{secrets.token_hex(8)}"
        with open_group_lock(self.vg):
            report("hide logical volume")
            run_lvm("lvrename", self.vg, volume.name, hidden)
            report("wipe logical volume")
            self._wipe(hidden, discard=zeroes)

    def remove_stale(self) -> tuple[Path, ...]:
        """Remove what makers left that were killed, and go on with what they were wiping."""
        with try_group_lock(self.vg) as alone:
            if not alone:
                return ()
            stale = [
                lv
                for lv in find_group(self.vg).volumes.values()
                if self.tag in lv.tags and _is_hidden(lv.name)
            ]
            for lv in stale:
                if lv.name.startswith(WIPE_PREFIX):
                    self._wipe(lv.name, discard=lv.zeroes)
                else:
                    run_lvm("lvremove", "-y", f"{self.vg}/{lv.name}")
        return tuple(self.path / lv.name for lv in stale)

    def extend(self, volume: str | None, policy: ExtendPolicy, *, report: Report = ignore) -> int:
        """Give a full LV of ours, or the thin pool, a step more; return how many bytes that is.

        A thin pool's records grow along with it when they are nearly full.
        """
        group = find_group(self.vg)
        name = self.kind.name_growing(volume)
        lv = group.volumes.get(name)
        if lv is None or "pool" not in lv.layout:
            lv = self._require_ours(name)
        more = decide_extension(policy, lv.size, 0, group.free, group.extent_size)
        if not more:
            return 0
        report("extend logical volume")
        run_lvm("lvextend", "-y", "-L", f"+{more}b", f"{self.vg}/{name}")
        if lv.metadata_percent is not None and lv.metadata_percent > _METADATA_FULL:
            report("extend metadata")
            records = ["--poolmetadatasize", f"+{group.extent_size}b"]
            run_lvm("lvextend", "-y", *records, f"{self.vg}/{name}")
        return more

    def _create(self, name: str, size: int) -> None:
        words = ["-y", "-n", name, "--addtag", self.tag, *self.kind.make_words(size)]
        run_lvm("lvcreate", *words)

    def _make_zeroed(self, plan: VolumePlan, report: Report) -> Path:
        size = _size_of(plan)
        with (
            self.open_new_volume(plan, size, report=report) as new,
            clear_errors("make volume"),
        ):
            report("write zeroes")
            _overwrite(new.path)
        return self.path / plan.name

    def _publish(self, old: str, new: str) -> None:
        try:
            run_lvm("lvrename", self.vg, old, new)
        except StorageError:
            if new in find_group(self.vg).volumes:
                raise taken(self.path / new) from None
            raise

    def _take_existing(self, plan: VolumePlan, error: StorageError) -> None:
        """A volume could not be made: because it is there, inactive perhaps? Else say why."""
        group = find_group(self.vg)
        if plan.name not in group.volumes:
            raise self._explain(_size_of(plan), error, group) from error
        run_lvm("lvchange", "-ay", "-K", f"{self.vg}/{plan.name}")

    def _explain(
        self, size: int, error: StorageError, group: VolumeGroup | None = None
    ) -> StorageError:
        """Say of a failure to make or grow an LV what is missing, if that is the reason."""
        return self.kind.find_lack(group or find_group(self.vg), size) or error

    def _require_ours(self, name: str) -> LogicalVolume:
        lv = find_group(self.vg).volumes.get(name)
        if lv is None:
            raise StorageError(f"there is no logical volume {self.vg}/{name}", "see lvs")
        if self.tag not in lv.tags:
            raise StorageError(
                f"logical volume {self.vg}/{name} was not made by us, and is left alone",
                f"take it over, if you mean to: lvchange --addtag {self.tag} {self.vg}/{name}",
            )
        return lv

    def _wipe(self, name: str, *, discard: bool) -> None:
        """What a pool that zeroes gives back need not be overwritten: nobody can read it."""
        run_lvm("lvchange", "-ay", "-K", f"{self.vg}/{name}")
        with clear_errors(f"wipe {self.path / name}"):
            if not discard:
                _overwrite(self.path / name)
        run_lvm("lvremove", "-y", f"{self.vg}/{name}")

    def _describe(self, lv: LogicalVolume) -> Volume:
        path = self.path / lv.name
        image = ImageInfo(
            path=path,
            format=ImageFormat.RAW,
            header_format=ImageFormat.RAW,
            virtual_size=lv.size,
            allocation=lv.allocation,
            real_path=Path(os.path.realpath(path)),
        )
        return Volume(
            name=lv.name,
            path=path,
            format=ImageFormat.RAW,
            image=image,
            pool=self.name,
            ours=self.tag in lv.tags,
            origin=lv.origin,
        )


def _is_hidden(name: str) -> bool:
    """Whether an LV is in the making, or being wiped."""
    return name.startswith((TEMPORARY_PREFIX, WIPE_PREFIX))


def _size_of(plan: VolumePlan) -> int:
    if plan.size is None:
        raise StorageError(f"volume {plan.name} has no size", "give a size")
    return plan.size


def _overwrite(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        write_zeroes(fd, os.lseek(fd, 0, os.SEEK_END))
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    with clear_errors(f"write {path}"):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
