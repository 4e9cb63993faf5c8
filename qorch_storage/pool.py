"""Pools: places where volumes lie. A dir pool is a directory of image files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.files import (
    NewFile,
    Report,
    ignore,
    open_new_file,
    remove_temporaries,
    sync_directory,
)
from qorch_storage.image import (
    find_chain,
    find_header_format,
    find_image,
    resolve_backing,
)
from qorch_storage.info import ImageInfo
from qorch_storage.plan import (
    Backing,
    ImageFormat,
    PoolPlan,
    VolumePlan,
    check_volume_name,
    find_format,
    make_file_name,
)
from qorch_storage.run import run

_DIRECTORY_MODE = 0o711  # QEMU may run as another user and has to reach its volumes
_HEADER_FORMATS = frozenset({ImageFormat.RAW, ImageFormat.QCOW2})  # understood without a process
_MAX_BACKING_NAME = 1023  # bytes, by the format
_LITTLE_SPACE = 1 << 20  # bytes: less free than that explains why an empty image did not fit


@attrs.frozen(kw_only=True)
class Volume:
    """One file of a pool.

    `image` is `None` if looking into the format would cost a process, or if the file cannot be
    understood: `problem` then says why.
    """

    name: str
    path: Path
    format: ImageFormat | None
    image: ImageInfo | None
    problem: str | None = None


@attrs.define(eq=False)
class DirPool:
    """A directory of image files, each a volume; what others put there is left alone.

    `report` is called with a step's name before the step touches the host. What fails raises
    StorageError and leaves the host as it was.
    """

    name: str
    path: Path

    @classmethod
    def from_plan(cls, plan: PoolPlan) -> DirPool:
        """Take the pool that a plan describes; its directory need not exist yet."""
        return cls(plan.name, plan.path)

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name and format lies, whether it exists or not."""
        check_volume_name(name)
        return self.path / make_file_name(name, image_format)

    def find_volumes(self) -> tuple[Volume, ...]:
        """List the pool's volumes by name, without a process; hidden files are none."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.path) if entry.is_file())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StorageError.from_os_error(f"list pool {self.name}", error) from error
        return tuple(_find_volume(self.path / name) for name in names if not name.startswith("."))

    def ensure_volume(self, plan: VolumePlan, *, report: Report = ignore) -> Path:
        """Make a volume unless it exists, and return its path.

        The pool's directory is made as well, not its parents. A volume that exists is left alone
        if it is at least as large as planned, with the planned format and backing file; else it
        is an error that says what differs.
        """
        path = self.volume_path(plan.name, plan.format)
        if find_image(path, plan.format) is None:
            size = _decide_size(plan)
            with suppress(FileExistsError), _clear_errors(f"make volume {path}"):  # see below
                self._make_volume(path, plan, size, report)
                return path
        _check_same(find_chain(path, plan.format)[0], plan)  # it was there, or came meanwhile
        return path

    def remove_volume(
        self, name: str, image_format: ImageFormat, *, report: Report = ignore
    ) -> bool:
        """Remove a volume and nothing else; return whether it existed."""
        path = self.volume_path(name, image_format)
        with _clear_errors(f"remove volume {path}"):
            try:
                path.lstat()
            except FileNotFoundError:
                return False
            report("remove volume")
            path.unlink(missing_ok=True)
            sync_directory(self.path)
        return True

    def remove_stale(self) -> tuple[Path, ...]:
        """Remove what makers that were killed left behind, and return it.

        While a volume is being made in the pool, nothing is removed: the next call does it.
        """
        with _clear_errors(f"clean pool {self.name}"):
            return remove_temporaries(self.path)

    def _make_volume(self, path: Path, plan: VolumePlan, size: int, report: Report) -> None:
        with self._open_directory(report), open_new_file(path, report=report) as new:
            report("make image")
            if plan.format is ImageFormat.RAW:
                os.ftruncate(new.fd, size)
            else:
                _make_qcow2(new, plan.backing, size)

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


def _find_volume(path: Path) -> Volume:
    known = find_format(path)
    try:
        known = known or find_header_format(path)
        image = find_image(path, known) if known in _HEADER_FORMATS else None
    except StorageError as error:
        return Volume(name=path.name, path=path, format=known, image=None, problem=error.message)
    return Volume(name=path.name, path=path, format=known, image=image)


@contextmanager
def _clear_errors(action: str) -> Iterator[None]:
    """Turn the kernel's refusals into ours; a name that is taken is for the caller to judge."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError.from_os_error(action, error) from error


def _decide_size(plan: VolumePlan) -> int:
    """Return the size in bytes of a volume to be made, whose backing chain must be sound."""
    if plan.format not in _HEADER_FORMATS:
        raise StorageError(
            f"volume {plan.name}: making {plan.format} volumes is not supported",
            "make it a qcow2 or raw volume",
        )
    base = _check_backing(plan.backing) if plan.backing else 0
    if plan.size is not None and plan.size < base:
        raise StorageError(
            f"volume {plan.name}: {plan.size} bytes is less than its backing file has ({base})",
            "leave the size out, or give at least that of the backing file",
        )
    return plan.size or base


def _check_backing(backing: Backing) -> int:
    size = find_chain(backing.path, backing.format)[0].virtual_size
    if size == 0:
        raise StorageError(f"backing file {backing.path} is empty", "give a disk image")
    if len(os.fsencode(backing.path.absolute())) > _MAX_BACKING_NAME:
        raise StorageError(
            f"the path of backing file {backing.path} is longer than {_MAX_BACKING_NAME} bytes",
            "move it to a shorter path",
        )
    return size


def _make_qcow2(new: NewFile, backing: Backing | None, size: int) -> None:
    over = ["-b", str(backing.path.absolute()), "-F", str(backing.format)] if backing else []
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *over]
    command += [str(new.path.absolute()), str(int(size))]
    try:
        run(command, keep_fds=[new.lock_fd])
    except StorageError as error:
        raise StorageError(error.message, error.hint or _find_space_hint(new.path.parent)) from None


def _find_space_hint(directory: Path) -> str | None:
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    full = free < _LITTLE_SPACE or (status.f_files and not status.f_favail)
    hint = f"{directory} has {free} bytes and {status.f_favail} inodes free: make space there"
    return hint if full else None


def _check_same(image: ImageInfo, plan: VolumePlan) -> None:
    differences = []
    if plan.size is not None and image.virtual_size < plan.size:
        differences.append(f"it has {image.virtual_size} bytes, not {plan.size}")
    backing = resolve_backing(image)
    if not _same_backing(backing, plan.backing):
        differences.append(f"it builds on {_describe(backing)}, not on {_describe(plan.backing)}")
    if differences:
        raise StorageError(
            f"volume {image.path} exists, but differs: {'; '.join(differences)}",
            "remove it or choose another name, or ask for what is there",
        )


def _same_backing(one: Backing | None, other: Backing | None) -> bool:
    if one is None or other is None:
        return one is other
    same_file = os.path.realpath(one.path) == os.path.realpath(other.path)
    return same_file and one.format is other.format


def _describe(backing: Backing | None) -> str:
    return f"{backing.path} ({backing.format})" if backing else "nothing"
