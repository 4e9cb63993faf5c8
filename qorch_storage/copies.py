"""The verbs that copy: clone, convert, import, export.

A copy is made under a name that is not its own, and gets its own when it is complete: whoever is
killed leaves nothing but that, and the next `remove_stale` removes it. What is copied is looked at
first: an image that builds on something outside of the pools is refused, for its copy might show a
file of the host to whoever gets it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.files import NewFile, Report, ignore, open_new_file, open_temporary_file
from qorch_storage.image import find_chain
from qorch_storage.info import Volume
from qorch_storage.locks import check_not_written
from qorch_storage.plan import Backing, Compression, ImageFormat, Preallocation, VolumePlan
from qorch_storage.pool.base import clear_errors, taken
from qorch_storage.pool.wanted import check_passphrase, describe_lack
from qorch_storage.pools import Pools
from qorch_storage.qemu_img import (
    Source,
    Target,
    make_convert_words,
    make_measure_words,
    parse_measure,
)
from qorch_storage.run import OnPercent, run, run_long

_BLOCK = 1 << 16  # bytes: an aligned piece of zeroes of that size becomes a hole


class Mode(StrEnum):
    """What a clone shares with its origin: nothing; all that it does not change; its blocks."""

    FULL = "full"
    LINKED = "linked"
    THIN = "thin"


@attrs.frozen(kw_only=True)
class Copy:
    """A copy as it shall be; without a format it has that of its origin.

    `compress` packs its clusters, which only qcow2 can.
    """

    pool: str
    name: str
    format: ImageFormat | None = None
    preallocation: Preallocation = Preallocation.OFF
    cluster_size: int | None = None
    compression: Compression | None = None
    lazy_refcounts: bool = False
    passphrase_file: Path | None = None
    compress: bool = False

    def plan(
        self, image_format: ImageFormat, size: int | None, backing: Backing | None = None
    ) -> VolumePlan:
        """The plan of the new volume. Raises StorageError if it cannot be."""
        options = attrs.asdict(self, recurse=False)
        compress = options.pop("compress")
        plan = VolumePlan(**options | {"format": image_format, "size": size, "backing": backing})
        if compress and plan.format is not ImageFormat.QCOW2:
            raise StorageError(
                f"volume {self.name}: {plan.format} volumes cannot be compressed", "make it qcow2"
            )
        return plan


def ignore_percent(_percent: float) -> None:
    """Tell nobody how far it is."""


def clone_volume(
    pools: Pools,
    volume: Volume,
    copy: Copy,
    *,
    mode: Mode = Mode.FULL,
    passphrase_file: Path | None = None,
    on_percent: OnPercent = ignore_percent,
    report: Report = ignore,
) -> Path:
    """Make a volume with the content of another one, and return its path.

    `full` stands alone, `linked` is a qcow2 overlay, which keeps the origin from being changed,
    `thin` shares blocks within a thin pool.
    """
    match mode:
        case Mode.FULL:
            chain = pools.find_chain(volume)
            source = Source(
                path=volume.path, format=chain[0].format, passphrase_file=passphrase_file
            )
            return _copy(pools, source, copy, on_percent, report)
        case Mode.LINKED:
            return _link(pools, volume, copy, report)
        case Mode.THIN:
            if copy.pool != volume.pool:
                raise StorageError(
                    "a thin clone lies in the pool of its origin", f"leave it in {volume.pool}"
                )
            pool = pools[volume.pool]
            path = pool.volume_path(copy.name, ImageFormat.RAW)
            if path.exists():
                raise taken(path)
            return pool.snapshot_volume(volume, copy.name, report=report)


def import_image(
    pools: Pools,
    source: Source,
    copy: Copy,
    *,
    on_percent: OnPercent = ignore_percent,
    report: Report = ignore,
) -> Path:
    """Make a volume of an image that lies anywhere on this host, and return its path."""
    pools.check_named(Backing(path=source.path, format=source.format))
    return _copy(pools, source, copy, on_percent, report)


def export_volume(
    pools: Pools,
    volume: Volume,
    path: Path,
    image_format: ImageFormat,
    *,
    compress: bool = False,
    passphrase_file: Path | None = None,
    on_percent: OnPercent = ignore_percent,
    report: Report = ignore,
) -> None:
    """Write a volume, and all it builds on, to a file that is new; it appears when it is whole."""
    with (
        clear_errors(f"write {path}"),
        _refusing_taken(path),
        open_new_file(path, report=report) as new,
    ):
        export = Copy(pool="", name="export", format=image_format, compress=compress)
        _export(pools, volume, new, export, passphrase_file, on_percent, report)


@contextmanager
def open_export(
    pools: Pools,
    volume: Volume,
    directory: Path,
    image_format: ImageFormat,
    *,
    compress: bool = False,
    passphrase_file: Path | None = None,
    report: Report = ignore,
) -> Iterator[int]:
    """Yield a descriptor to read a volume's export from; it is gone afterwards.

    A raw volume exported as raw is read as it lies there, without a copy in `directory`.
    """
    chain = pools.find_chain(volume)
    if chain[0].format is image_format is ImageFormat.RAW and not compress:
        check_not_written(volume.path)
        with clear_errors(f"read {volume.path}"):
            fd = os.open(volume.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    export = Copy(pool="", name="export", format=image_format, compress=compress)
    with clear_errors(f"write to {directory}"), open_temporary_file(directory) as new:
        _export(pools, volume, new, export, passphrase_file, ignore_percent, report)
        yield new.fd


@contextmanager
def open_import(directory: Path) -> Iterator[NewFile]:
    """Yield a file in `directory` for an image that comes in pieces: `write_piece` puts them there.

    `import_image` makes a volume of it, before the block ends and the file is gone.
    """
    with clear_errors(f"write to {directory}"), open_temporary_file(directory) as new:
        yield new


def write_piece(fd: int, data: bytes, at: int) -> int:
    """Write a piece of an image at an offset, zeroes as holes; return where the next one goes.

    The last one needs `os.ftruncate` to where it ends, if it ended in a hole. Raises OSError.
    """
    view = memoryview(data)
    while view:
        piece = view[: _BLOCK - at % _BLOCK]
        if any(piece):
            os.pwrite(fd, piece, at)
        at += len(piece)
        view = view[len(piece) :]
    return at


def _link(pools: Pools, volume: Volume, copy: Copy, report: Report) -> Path:
    chain = pools.find_chain(volume)
    check_not_written(volume.path)
    backing = Backing(path=volume.path, format=chain[0].format)
    plan = copy.plan(copy.format or ImageFormat.QCOW2, None, backing)
    pool = pools[copy.pool]
    pool.check_format(plan.format)
    path = pool.volume_path(plan.name, plan.format)
    if path.exists():
        raise taken(path)
    return pool.ensure_volume(plan, report=report)


def _copy(pools: Pools, source: Source, copy: Copy, on_percent: OnPercent, report: Report) -> Path:
    image = find_chain(source.path, source.format)[0]
    _check_source(source, encrypted=image.encrypted)
    pool = pools[copy.pool]
    plan = copy.plan(copy.format or _fitting(pools, copy, image.format), image.virtual_size)
    pool.check_format(plan.format)
    try:
        with pool.open_new_volume(plan, image.virtual_size, report=report) as new:
            report("copy data")
            target = Target(path=new.path, there=new.device, zeroed=new.zeroed)
            words = make_convert_words(source, target, plan, compress=copy.compress)
            run_long(words, on_percent, keep_fds=new.keep_fds)
    except StorageError as error:
        raise _explain(error, source, plan, pool.find_space().free, f"pool {copy.pool}") from None
    return pool.volume_path(plan.name, plan.format)


def _export(
    pools: Pools,
    volume: Volume,
    new: NewFile,
    export: Copy,
    passphrase_file: Path | None,
    on_percent: OnPercent,
    report: Report,
) -> None:
    image = pools.find_chain(volume)[0]
    source = Source(path=volume.path, format=image.format, passphrase_file=passphrase_file)
    _check_source(source, encrypted=image.encrypted)
    plan = export.plan(export.format or image.format, image.virtual_size)
    words = make_convert_words(source, Target(path=new.path), plan, compress=export.compress)
    report("copy data")
    try:
        run_long(words, on_percent, keep_fds=[new.lock_fd])
    except StorageError as error:
        status = os.statvfs(new.path.parent)
        free = status.f_bavail * status.f_frsize + os.fstat(new.fd).st_blocks * 512
        raise _explain(error, source, plan, free, str(new.path.parent)) from None


def _check_source(source: Source, *, encrypted: bool) -> None:
    check_not_written(source.path)
    if source.passphrase_file is not None:
        check_passphrase(source.passphrase_file)
    elif encrypted or source.format is ImageFormat.LUKS:
        raise StorageError(f"{source.path} is encrypted", "give the file with its passphrase")


def _fitting(pools: Pools, copy: Copy, image_format: ImageFormat) -> ImageFormat:
    """The origin's format where the pool can hold it; a logical volume is raw, whatever it was."""
    if copy.passphrase_file is None and image_format is ImageFormat.LUKS:
        return ImageFormat.RAW
    try:
        pools[copy.pool].check_format(image_format)
    except StorageError:
        return ImageFormat.RAW
    return image_format


def _explain(
    error: StorageError, source: Source, plan: VolumePlan, free: int, where: str
) -> StorageError:
    """Say of a copy that failed how much room is missing, if that is why."""
    if os.strerror(errno.ENOSPC) not in error.message or source.passphrase_file is not None:
        return error
    try:
        needed = parse_measure(run(make_measure_words(source, plan.format)))
    except (StorageError, ValueError):
        return error
    return describe_lack(where, needed, free) if needed > free else error


@contextmanager
def _refusing_taken(path: Path) -> Iterator[None]:
    if path.exists():
        raise StorageError(f"{path} exists already", "choose another name, or remove it first")
    try:
        yield
    except FileExistsError:
        raise StorageError(f"{path} exists already", "choose another name") from None
