"""The verbs on one volume: make, resize, rename, wipe, remove, check.

Each is done as a whole or not at all, or can be repeated, wherever it was killed. `report` is
called with a step's name before the step touches the host. What fails raises StorageError.
"""

from __future__ import annotations

from pathlib import Path

from qorch_storage.errors import StorageError
from qorch_storage.files import Report, ignore
from qorch_storage.info import Volume
from qorch_storage.locks import check_unused
from qorch_storage.plan import ImageFormat, VolumePlan, check_volume_size
from qorch_storage.pool.base import taken
from qorch_storage.pools import Pools
from qorch_storage.qemu_img import Check, Source, make_check_words, parse_check
from qorch_storage.run import run_unchecked

_CHECKED = (ImageFormat.QCOW2, ImageFormat.QED, ImageFormat.VDI, ImageFormat.VMDK)
_SAID = (0, 2, 3)  # qemu-img(1): fine, corrupt, leaks; with all of them there is an answer


def create_volume(pools: Pools, plan: VolumePlan, *, report: Report = ignore) -> Path:
    """Make a volume, whose name must be free, and return its path."""
    pool = pools[plan.pool]
    pool.check_format(plan.format)
    path = pool.volume_path(plan.name, plan.format)
    if path.exists():
        raise taken(path)
    if plan.backing is not None:
        pools.check_named(plan.backing)
    return pool.ensure_volume(plan, report=report)


def resize_volume(
    pools: Pools, volume: Volume, size: int, *, force: bool = False, report: Report = ignore
) -> None:
    """Make a volume larger, or with `force` smaller: what lay beyond its new end is lost."""
    check_volume_size(size)
    if volume.image is None:
        raise _unusable(volume)
    old = volume.image.virtual_size
    if size < old and not force:
        raise StorageError(
            f"volume {volume.name} has {old} bytes: {size} would cut {old - size} off",
            "shrink what is in it first, and then use --force",
        )
    pools.check_changeable(volume)
    if size != old:
        pools[volume.pool].resize_volume(volume, size, report=report)


def rename_volume(pools: Pools, volume: Volume, name: str, *, report: Report = ignore) -> Path:
    """Give a volume another name in its pool, and return its new path."""
    pools.check_changeable(volume)
    return pools[volume.pool].rename_volume(volume, name, report=report)


def wipe_volume(pools: Pools, volume: Volume, *, report: Report = ignore) -> None:
    """Overwrite a volume, so that nobody can read it any more, and remove it."""
    pools.check_changeable(volume)
    pools[volume.pool].wipe_volume(volume, report=report)


def remove_volume(pools: Pools, volume: Volume, *, report: Report = ignore) -> None:
    """Remove a volume that nothing builds on."""
    pools.check_changeable(volume)
    pools[volume.pool].drop_volume(volume, report=report)


def check_volume(
    volume: Volume,
    *,
    repair: str | None = None,
    passphrase_file: Path | None = None,
    report: Report = ignore,
) -> Check:
    """Check a volume's own records; `repair` is `leaks` or `all`, and may be repeated."""
    if volume.format not in _CHECKED:
        raise StorageError(
            f"{volume.format} volumes have no records that could be checked",
            f"those that have: {', '.join(_CHECKED)}",
        )
    check_unused(volume.path)
    source = Source(path=volume.path, format=volume.format, passphrase_file=passphrase_file)
    report("repair volume" if repair else "check volume")
    done = run_unchecked(make_check_words(source, repair))
    try:
        if done.status in _SAID:
            return parse_check(done.stdout)
    except ValueError:
        pass
    raise done.error()


def _unusable(volume: Volume) -> StorageError:
    return StorageError(
        f"volume {volume.name} cannot be used: {volume.problem or 'its format is not known'}",
        "see qorch volume check, or restore a copy",
    )
