"""Look at disk images: what they hold, and what they build on."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.foreign import parse_foreign
from qorch_storage.info import ImageInfo
from qorch_storage.plan import SECTOR, Backing, ImageFormat, find_format
from qorch_storage.qcow2 import MAGIC, MAX_CLUSTER, parse_header
from qorch_storage.qemu_img import Source, make_info_words, parse_info
from qorch_storage.run import run

MAX_CHAIN = 200  # images; QEMU opens each of them, and reads pass through all

_START = 1 << 12  # bytes: in all but rare cases, the name of a backing file lies in them
_HEAD = 1 << 16  # bytes: a qcow2 image's first cluster, in all but rare cases
_MAGICS = (
    (0, MAGIC, ImageFormat.QCOW2),
    (0, b"KDMV", ImageFormat.VMDK),
    (0, b"COWD", ImageFormat.VMDK),
    (0, b"# Disk DescriptorFile", ImageFormat.VMDK),
    (0, b"QED\0", ImageFormat.QED),
    (0, b"LUKS\xba\xbe", ImageFormat.LUKS),
    (64, b"\x7f\x10\xda\xbe", ImageFormat.VDI),
)


def find_image(path: Path, image_format: ImageFormat | None = None) -> ImageInfo | None:
    """Look at one image, read-only; `None` if there is no such file.

    Without a format the suffix decides, never the content. Raw and qcow2 images cost no process,
    the others one. Raises StorageError for what cannot be read, is no file or block device, or is
    not of that format.
    """
    image_format = image_format or _known_format(path)
    head = _find_head(path)
    if head is None:
        return None
    if image_format is ImageFormat.RAW:
        return _make_info(head, image_format, virtual_size=-(-head.size // SECTOR) * SECTOR)
    if image_format is not head.format:
        raise StorageError(
            f"{path} is not a {image_format} image: its first bytes look like {head.format}",
            f"if that is what it is, give its format as {head.format}",
        )
    if image_format is ImageFormat.QCOW2:
        return _make_qcow2_info(head)
    return _query_info(head, image_format)


def peek_image(path: Path, image_format: ImageFormat) -> ImageInfo | None:
    """Look at one image without a process; `None` if nothing can be told that way.

    It is for lists: the headers of formats that are QEMU's only in part are read in part. Raises
    StorageError for what cannot be read, or is not of that format.
    """
    if image_format in {ImageFormat.RAW, ImageFormat.QCOW2}:
        return find_image(path, image_format)
    head = _find_head(path)
    if head is None or head.format is not image_format:
        return None
    found = parse_foreign(head.data, image_format)
    if found is None:
        return None
    return _make_info(
        head,
        image_format,
        virtual_size=found.virtual_size,
        backing_file=found.backing_file,
        backing_format=found.backing_format,
    )


def find_header_format(path: Path) -> ImageFormat | None:
    """Return what an image's first bytes look like: for showing, never for opening it.

    Returns `None` if there is no such file. Raises StorageError for what cannot be read.
    """
    head = _find_head(path)
    return head.format if head else None


def has_in_heads(directory: Path, words: bytes) -> bool:
    """Whether a file of a directory has these words in its first bytes, where headers are."""
    try:
        names = os.listdir(directory)  # noqa: PTH208  thousands of them: no Path for each
    except OSError:
        return False
    return any(words in _read_start(f"{directory}/{name}") for name in names)


def find_chain(path: Path, image_format: ImageFormat | None = None) -> tuple[ImageInfo, ...]:
    """Look at an image and all it builds on, from the top to the base.

    Raises StorageError, naming the image and what refers to it, for a missing or looping parent,
    a backing format that is not written down, a backing name that is not a path, and an image
    that is corrupt or keeps its data in another file.
    """
    chain = [_find_link(path, image_format, referrer=None)]
    seen = {_identity(path)}
    while (backing := resolve_backing(chain[-1])) is not None:
        referrer = chain[-1].path
        chain.append(_find_link(backing.path, backing.format, referrer=referrer))
        if _identity(backing.path) in seen:
            raise StorageError(
                f"{backing.path} (backing file of {referrer}) builds on itself",
                "correct the chain with qemu-img rebase -u",
            )
        if len(chain) > MAX_CHAIN:
            raise StorageError(
                f"{path} builds on more than {MAX_CHAIN} images",
                "shorten the chain with qemu-img commit or convert",
            )
        seen.add(_identity(backing.path))
    return tuple(chain)


def resolve_backing(image: ImageInfo) -> Backing | None:
    """Return the image that this one builds on; a relative name begins in its own directory.

    Looks at nothing. Raises StorageError if the name is no path or the format is not explicit.
    """
    name = image.backing_file
    if name is None:
        return None
    if _is_url(name):
        raise StorageError(
            f"{image.path} builds on {name!r}, which is not the path of a file",
            "only backing files given by path are supported",
        )
    if image.backing_format is None:
        raise StorageError(
            f"{image.path} builds on {name!r} without saying in which format that is",
            "write it down with qemu-img rebase -u -b BACKING_FILE -F FORMAT",
        )
    if image.backing_format not in list(ImageFormat):
        raise StorageError(
            f"{image.path} builds on {name!r} in the unknown format {image.backing_format!r}",
            f"known formats are {', '.join(ImageFormat)}",
        )
    return Backing(path=image.path.parent / name, format=ImageFormat(image.backing_format))


def _is_url(name: str) -> bool:
    """Whether QEMU would take a file's name for a protocol and its address."""
    return ":" in name.partition("/")[0]


def _known_format(path: Path) -> ImageFormat:
    found = find_format(path)
    if found is None:
        raise StorageError(
            f"the format of {path} would have to be guessed",
            f"give its format: {', '.join(ImageFormat)}",
        )
    return found


@attrs.frozen(kw_only=True)
class _Head:
    """What one open file tells without being understood; `data` is at least its first 64 KiB."""

    path: Path
    size: int
    allocation: int
    data: bytes
    format: ImageFormat


def _read_start(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, _START, 0)
    except OSError:  # a directory, a pipe
        return b""
    finally:
        os.close(fd)


def _find_head(path: Path) -> _Head | None:
    try:
        kind = path.stat().st_mode  # before open, which can act on a FIFO or a tape
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            raise StorageError(
                f"{path} is neither a file nor a block device", "give the path of a disk image"
            )
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _read_head(path, fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError.from_os_error(f"read {path}", error) from error
    except ValueError as error:  # a NUL in the path
        raise StorageError(f"cannot read {str(path)!r}: {error}") from error


def _read_head(path: Path, fd: int) -> _Head:
    data = os.pread(fd, _HEAD, 0)
    found = _find_header_format(data)
    if found is ImageFormat.QCOW2 and int.from_bytes(data[20:24]) > 16:
        data = os.pread(fd, MAX_CLUSTER, 0)
    return _Head(
        path=path,
        size=os.lseek(fd, 0, os.SEEK_END),
        allocation=os.fstat(fd).st_blocks * 512,
        data=data,
        format=found,
    )


def _find_header_format(data: bytes) -> ImageFormat:
    found = (known for at, magic, known in _MAGICS if data.startswith(magic, at))
    return next(found, ImageFormat.RAW)


def _make_info(head: _Head, image_format: ImageFormat, **rest: Any) -> ImageInfo:
    backing = rest.get("backing_file")
    if backing and not _is_url(backing):
        rest["real_backing"] = Path(os.path.realpath(head.path.parent / backing))
    return ImageInfo(
        path=head.path,
        format=image_format,
        header_format=head.format,
        allocation=head.allocation,
        real_path=Path(os.path.realpath(head.path)),
        **rest,
    )


def _make_qcow2_info(head: _Head) -> ImageInfo:
    try:
        header = parse_header(head.data)
        header.check_tables(head.size)
    except ValueError as error:
        raise StorageError(
            f"{head.path} is not a usable qcow2 image: {error}",
            "it is damaged or not what it claims to be; do not use it",
        ) from error
    return _make_info(
        head,
        ImageFormat.QCOW2,
        virtual_size=header.virtual_size,
        backing_file=header.backing_file,
        backing_format=header.backing_format,
        data_file=header.data_file or ("?" if header.external_data else None),
        encrypted=header.encrypted,
        dirty=header.dirty,
        corrupt=header.corrupt,
    )


def _query_info(head: _Head, image_format: ImageFormat) -> ImageInfo:
    words = make_info_words(Source(path=head.path, format=image_format))
    try:
        answer = parse_info(run(words))
    except ValueError as error:
        raise StorageError(f"qemu-img says nothing usable of {head.path}: {error}") from None
    return _make_info(
        head,
        image_format,
        virtual_size=answer.virtual_size,
        backing_file=answer.backing_file,
        backing_format=answer.backing_format,
        encrypted=answer.encrypted,
        dirty=answer.dirty,
    )


def _find_link(path: Path, image_format: ImageFormat | None, *, referrer: Path | None) -> ImageInfo:
    name = f"{path} (backing file of {referrer})" if referrer else str(path)
    try:
        image = find_image(path, image_format)
    except StorageError as error:
        message = f"backing file of {referrer}: {error.message}" if referrer else error.message
        raise StorageError(message, error.hint) from error
    if image is None:
        raise StorageError(f"{name} does not exist", "correct the path, or bring the file back")
    if image.data_file is not None:
        raise StorageError(
            f"{name} keeps its data in another file, {image.data_file}",
            "convert it to a self-contained image with qemu-img convert",
        )
    if image.corrupt:
        raise StorageError(
            f"{name} is marked as corrupt",
            f"look with `qemu-img check {path}`, or restore a copy",
        )
    return image


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise StorageError.from_os_error(f"read {path}", error) from error
    return status.st_dev, status.st_ino
