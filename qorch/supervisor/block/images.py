"""Images on the host, by qorch_storage and qemu-img. Blocking: run in threads."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from qorch.block.record import Volume
from qorch_storage.errors import StorageError
from qorch_storage.files import write_zeroes
from qorch_storage.image import find_chain, find_image
from qorch_storage.plan import Backing, PoolPlan
from qorch_storage.pool import make_pool
from qorch_storage.pools import Pools
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


def check_free(volumes: Iterable[Volume]) -> None:
    """Refuse names that are taken, before an undo could remove what has them.

    Raises StorageError.
    """
    for volume in volumes:
        path = volume.image.path
        if make_pool(volume.pool).find_volume(path.name) is not None:
            raise StorageError(f"volume {path} exists already", "remove it, or choose another pool")


def make_volumes(volumes: Iterable[Volume], tell: Tell) -> None:
    """Make volumes whose names are free; beyond the size that is wanted they read as zeroes.

    Raises StorageError.
    """
    for volume in volumes:
        pool = make_pool(volume.pool)
        path = pool.ensure_volume(volume.volume, report=tell)
        if is_device(path) and volume.volume.size is not None and not pool.find_zeroed():
            tell("clear the end")
            _clear_end(path, volume.volume.size)


def _clear_end(path: Path, size: int) -> None:
    """LVM rounds up: what was on the rest of the last extent is not for the guest to see."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            write_zeroes(fd, os.lseek(fd, 0, os.SEEK_END), at=size)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError.from_os_error(f"write {path}", error) from error


def remove_volumes(volumes: Iterable[Volume], tell: Tell) -> None:
    """Remove volumes if they are there. Raises StorageError."""
    for volume in volumes:
        pool = make_pool(volume.pool)
        pool.remove_volume(volume.volume.name, volume.volume.format, report=tell)


def find_users(volume: Volume, plans: Iterable[PoolPlan]) -> list[str]:
    """The volumes of those pools that build on one."""
    found = Pools.from_plans(plans).find_dependents(volume.image.path)
    return [f"{other.pool}/{other.name}" for other in found]


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


def flatten_image(image: Backing, tell: Tell) -> None:
    """Copy what an image reads from those below into it; done again, it goes on."""
    tell(f"flatten {image.path.name}")
    run(["qemu-img", "rebase", "-q", "-f", str(image.format), "-b", "", str(image.path)])


def fill_volume(source: Backing, volume: Volume, tell: Tell) -> None:
    """Copy all that an image reads into a new volume. Raises StorageError."""
    zeroed = make_pool(volume.pool).find_zeroed()
    convert_image(source, volume.image, tell, zeroed=zeroed)


def convert_image(source: Backing, target: Backing, tell: Tell, *, zeroed: bool = True) -> None:
    """Copy all that an image reads into another one that is there already; `zeroed`: and empty."""
    tell(f"copy {source.path.name}")
    formats = ["-f", str(source.format), "-O", str(target.format)]
    where = [str(source.path), str(target.path)]
    how = ["-n", "--target-is-zero"] if zeroed else ["-n"]
    run(["qemu-img", "convert", "-q", *how, *formats, *where])


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
