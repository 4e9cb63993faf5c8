"""Images on the host, by qorch_storage and qemu-img. Blocking: run in threads."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from qorch.block.record import Volume
from qorch_storage.errors import StorageError
from qorch_storage.image import find_chain, find_image
from qorch_storage.plan import Backing, PoolPlan
from qorch_storage.pool import make_pool
from qorch_storage.run import run

Tell = Callable[[str], None]


def read_chain(top: Backing) -> tuple[Backing, ...]:
    """The images from one down, as their headers have it. Raises StorageError."""
    return tuple(
        Backing(path=info.path, format=info.format) for info in find_chain(top.path, top.format)
    )


def read_chains(tops: Iterable[Backing]) -> tuple[tuple[Backing, ...], ...]:
    """The same for several images."""
    return tuple(read_chain(top) for top in tops)


def read_size(image: Backing) -> int:
    """What the guest sees, in bytes. Raises StorageError if there is no such image."""
    info = find_image(image.path, image.format)
    if info is None:
        raise StorageError(f"{image.path} does not exist", "bring it back, or correct the path")
    return info.virtual_size


def make_volumes(volumes: Iterable[Volume], tell: Tell) -> None:
    """Make volumes whose names must be free. Raises StorageError."""
    for volume in volumes:
        path = volume.image.path
        if find_image(path, volume.volume.format) is not None:
            raise StorageError(f"volume {path} exists already", "remove it, or choose another pool")
        make_pool(volume.pool).ensure_volume(volume.volume, report=tell)


def remove_volumes(volumes: Iterable[Volume], tell: Tell) -> None:
    """Remove volumes if they are there. Raises StorageError."""
    for volume in volumes:
        pool = make_pool(volume.pool)
        pool.remove_volume(volume.volume.name, volume.volume.format, report=tell)


def remove_files(files: Iterable[Path]) -> None:
    """Remove files of ours if they are there."""
    for path in files:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()  # a directory of ours that holds nothing any more


def commit_image(top: Backing, tell: Tell) -> None:
    """Write what an image holds into the one it builds on; it stays as it is itself."""
    tell(f"commit {top.path.name}")
    run(["qemu-img", "commit", "-q", "-d", "-f", str(top.format), str(top.path)])


def rebase_image(image: Backing, base: Backing, tell: Tell) -> None:
    """Write another backing file into an image's header; that file must read the same."""
    tell(f"rebase {image.path.name}")
    over = ["-b", str(base.path), "-F", str(base.format)]
    run(["qemu-img", "rebase", "-q", "-u", "-f", str(image.format), *over, str(image.path)])


def convert_image(source: Backing, target: Backing, tell: Tell) -> None:
    """Copy all that an image reads into another one that is there already."""
    tell(f"copy {source.path.name}")
    formats = ["-f", str(source.format), "-O", str(target.format)]
    where = [str(source.path), str(target.path)]
    run(["qemu-img", "convert", "-q", "-n", "--target-is-zero", *formats, *where])


def is_device(path: Path) -> bool:
    """Whether an image is a block device."""
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def find_free(path: Path) -> int:
    """The bytes that are free where a file lies."""
    status = os.statvfs(path.parent)
    return status.f_bavail * status.f_frsize


def grow_image(image: Backing, pools: Iterable[PoolPlan], size: int, tell: Tell) -> int:
    """Make an image that no QEMU grows larger, and return its size then: LVM rounds up.

    Raises StorageError.
    """
    if not is_device(image.path):
        tell(f"resize {image.path.name}")
        run(["qemu-img", "resize", "-q", "-f", str(image.format), str(image.path), str(size)])
        return size
    for plan in pools:
        pool = make_pool(plan)
        for volume in pool.find_volumes() if plan.path == image.path.parent else ():
            if volume.path == image.path:
                pool.resize_volume(volume, size, report=tell)
                return read_size(image)
    raise StorageError(f"{image.path} lies in no pool that is known", "resize it yourself first")
