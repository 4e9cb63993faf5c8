"""A directory whose files are volumes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.files import (
    Report,
    finish_wipes,
    ignore,
    open_new_file,
    remove_temporaries,
    rename_new,
    sync_directory,
    wipe_file,
)
from qorch_storage.image import find_chain, find_header_format, find_image, peek_image
from qorch_storage.info import Space, Volume
from qorch_storage.names import check_volume_name
from qorch_storage.plan import (
    ImageFormat,
    PoolPlan,
    Preallocation,
    VolumePlan,
    find_format,
    make_file_name,
)
from qorch_storage.policy import ExtendPolicy
from qorch_storage.pool.base import NewVolume, clear_errors, taken
from qorch_storage.pool.wanted import check_passphrase, check_same, decide_size, describe_lack
from qorch_storage.qemu_img import Source, make_create_words, make_resize_words
from qorch_storage.run import run, run_create

_DIRECTORY_MODE = 0o711  # QEMU may run as another user and has to reach its volumes
_RESIZED = frozenset({ImageFormat.RAW, ImageFormat.QCOW2, ImageFormat.QED, ImageFormat.LUKS})
_LITTLE_SPACE = 1 << 20  # bytes: less free than that explains why an empty image did not fit


@attrs.define(eq=False)
class DirPool:
    """A directory of image files, each a volume; what others put there is left alone."""

    name: str
    path: Path
    has_overlays = True
    default_format = ImageFormat.QCOW2

    @classmethod
    def from_plan(cls, plan: PoolPlan) -> DirPool:
        """Take the pool that a plan describes; its directory need not exist yet."""
        return cls(plan.name, plan.path)

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name and format lies, whether it exists or not."""
        check_volume_name(name)
        return self.path / make_file_name(name, image_format)

    def check_format(self, image_format: ImageFormat) -> None:
        """Accept all: a file holds any format."""

    def find_space(self) -> Space:
        """Look at the file system that the directory is on, or will be."""
        place = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        with clear_errors(f"look at pool {self.name}"):
            status = os.statvfs(place)
        images = [volume.image for volume in self.find_volumes() if volume.image]
        return Space(
            capacity=status.f_blocks * status.f_frsize,
            allocation=(status.f_blocks - status.f_bfree) * status.f_frsize,
            free=status.f_bavail * status.f_frsize,
            promised=sum(image.virtual_size for image in images),
        )

    def find_zeroed(self) -> bool:
        """They do: files are new."""
        return True

    def find_volumes(self) -> tuple[Volume, ...]:
        """List the pool's volumes by name, without a process; hidden files are none."""
        try:
            with os.scandir(self.path) as entries:
                names = sorted(entry.name for entry in entries if _is_file(entry))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StorageError.from_os_error(f"list pool {self.name}", error) from error
        return tuple(
            _find_volume(self.name, self.path / name) for name in names if not name.startswith(".")
        )

    def find_volume(self, name: str) -> Volume | None:
        """The volume of exactly that file name."""
        path = self.path / name
        return _find_volume(self.name, path) if path.is_file() else None

    def ensure_volume(self, plan: VolumePlan, *, report: Report = ignore) -> Path:
        """Make a volume unless it exists, and return its path.

        The pool's directory is made as well, not its parents. A volume that exists is left alone
        if it is at least as large as planned, with the planned format and backing file; else it
        is an error that says what differs.
        """
        path = self.volume_path(plan.name, plan.format)
        if find_image(path, plan.format) is None:
            size = decide_size(plan)
            with suppress(FileExistsError), clear_errors(f"make volume {path}"):  # see below
                self._make_volume(path, plan, size, report)
                return path
        check_same(find_chain(path, plan.format)[0], plan)  # it was there, or came meanwhile
        return path

    @contextmanager
    def open_new_volume(
        self, plan: VolumePlan, size: int, *, report: Report = ignore
    ) -> Iterator[NewVolume]:
        """Yield an empty file that gets the volume's name when the block ends well."""
        path = self.volume_path(plan.name, plan.format)
        if path.exists():
            raise taken(path)
        try:
            with (
                clear_errors(f"make volume {path}"),
                self._open_directory(report),
                open_new_file(path, report=report) as new,
            ):
                if (
                    plan.passphrase_file is not None
                ):  # there is no way to make and fill it in one step
                    report("make image")
                    run_create(make_create_words(new.path, plan, size), keep_fds=[new.lock_fd])
                there = plan.passphrase_file is not None
                yield NewVolume(path=new.path, keep_fds=(new.lock_fd,), device=there)
        except FileExistsError:
            raise taken(path) from None

    def resize_volume(self, volume: Volume, size: int, *, report: Report = ignore) -> None:
        """Make a volume larger or smaller, to `size` bytes, where its format can be resized."""
        image = volume.image
        if image is None or image.format not in _RESIZED:
            raise StorageError(
                f"{volume.format} volumes cannot be resized", "convert it to qcow2 first"
            )
        with clear_errors(f"resize volume {volume.path}"):
            report("resize volume")
            if image.format is ImageFormat.RAW:
                os.truncate(volume.path, size)
                return
            source = Source(path=volume.path, format=image.format)
            run(make_resize_words(source, size, Preallocation.OFF))

    def snapshot_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Refuse: files share no blocks; an overlay does instead."""
        raise StorageError(
            f"pool {self.name} has no thin snapshots", "make a linked clone: a qcow2 overlay"
        )

    def rename_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Give a volume another name in one step, and return its new path."""
        check_volume_name(name)
        path = self.path / (make_file_name(name, volume.format) if volume.format else name)
        if path == volume.path:
            return path
        try:
            with clear_errors(f"rename volume {volume.path}"):
                report("rename volume")
                rename_new(volume.path, path)
        except FileExistsError:
            raise taken(path) from None
        return path

    def remove_volume(
        self, name: str, image_format: ImageFormat, *, report: Report = ignore
    ) -> bool:
        """Remove a volume and nothing else; return whether it existed."""
        return self._remove(self.volume_path(name, image_format), report)

    def drop_volume(self, volume: Volume, *, report: Report = ignore) -> bool:
        """Remove a volume's file."""
        return self._remove(volume.path, report)

    def wipe_volume(self, volume: Volume, *, report: Report = ignore) -> None:
        """Overwrite a volume's file with zeroes and remove it."""
        if volume.path.is_symlink():
            raise StorageError(
                f"volume {volume.path} is a symbolic link to {volume.path.resolve()}",
                "wipe that file where it is, or remove the link: qorch volume rm",
            )
        with clear_errors(f"wipe volume {volume.path}"):
            wipe_file(volume.path, report=report)

    def extend(self, volume: str | None, policy: ExtendPolicy, *, report: Report = ignore) -> int:
        """Do nothing: a file grows by itself, until the file system is full."""
        return 0

    def remove_stale(self) -> tuple[Path, ...]:
        """Remove what makers that were killed left behind, and return it.

        While a volume is being made in the pool, nothing is removed: the next call does it.
        """
        with clear_errors(f"clean pool {self.name}"):
            return remove_temporaries(self.path) + finish_wipes(self.path)

    def _remove(self, path: Path, report: Report) -> bool:
        with clear_errors(f"remove volume {path}"):
            try:
                path.lstat()
            except FileNotFoundError:
                return False
            report("remove volume")
            path.unlink(missing_ok=True)
            sync_directory(self.path)
        return True

    def _make_volume(self, path: Path, plan: VolumePlan, size: int, report: Report) -> None:
        if plan.passphrase_file is not None:
            check_passphrase(plan.passphrase_file)
        with self._open_directory(report), open_new_file(path, report=report) as new:
            report("make image")
            if plan.format is ImageFormat.RAW:
                self._make_raw(new.fd, size, plan.preallocation)
            else:
                self._run_create(make_create_words(new.path, plan, size), new.lock_fd)

    def _make_raw(self, fd: int, size: int, preallocation: Preallocation) -> None:
        os.ftruncate(fd, size)
        if preallocation is Preallocation.OFF:
            return
        try:
            os.posix_fallocate(fd, 0, size)
            if preallocation is Preallocation.FULL:
                _write_all(fd, size)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            os.ftruncate(fd, 0)
            raise describe_lack(f"pool {self.name}", size, _find_free(self.path)) from error

    def _run_create(self, words: list[str], lock_fd: int) -> None:
        try:
            run_create(words, keep_fds=[lock_fd])
        except StorageError as error:
            hint = _find_space_hint(self.path) or error.hint
            raise StorageError(error.message, hint) from None

    @contextmanager
    def _open_directory(self, report: Report) -> Iterator[None]:
        """Make the directory if there is none; take it away again if what follows fails."""
        made = self._make_directory(report)
        try:
            yield
        except BaseException:
            if made:
                with suppress(OSError):  # another volume is in it by now
                    self.path.rmdir()
            raise

    def _make_directory(self, report: Report) -> bool:
        if self.path.exists():
            return False
        report("make pool directory")
        try:
            self.path.mkdir(_DIRECTORY_MODE)
        except FileExistsError:
            return False
        return True


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a symbolic link that leads to itself, say
        return False


def _find_volume(pool: str, path: Path) -> Volume:
    known = find_format(path)
    image, problem = None, None
    try:
        known = known or find_header_format(path)
        image = peek_image(path, known) if known else None
    except StorageError as error:
        problem = error.message
    return Volume(name=path.name, path=path, format=known, image=image, problem=problem, pool=pool)


def _write_all(fd: int, size: int) -> None:
    block = memoryview(bytes(1 << 20))
    at = 0
    while at < size:
        at += os.pwrite(fd, block[: size - at], at)


def _find_free(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _find_space_hint(directory: Path) -> str | None:
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    full = free < _LITTLE_SPACE or (status.f_files and not status.f_favail)
    hint = f"{directory} has {free} bytes and {status.f_favail} inodes free: make space there"
    return hint if full else None
