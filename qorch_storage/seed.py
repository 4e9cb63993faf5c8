"""Seed images: files for the guest's cloud-init, on a small read-only disk (NoCloud).

The image is ISO 9660 with Rock Ridge and Joliet, labelled `cidata`, as
https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html asks for. The same
files give the same bytes, so whether a seed has to be written anew is seen by comparing. pycdlib
takes dates from the clock and cannot be told otherwise: they are set in the finished image, by
the layout that ECMA-119 and SUSP (IEEE P1281) lay down.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

from qorch_storage.errors import StorageError
from qorch_storage.files import Report, ignore, open_new_file

LABEL = "cidata"
MAX_NAME = 64  # bytes: pycdlib's limit for Joliet; leaves a file's dates within its record

_SECTOR = 2048
_FIRST_DESCRIPTOR = 16 * _SECTOR
_DESCRIPTOR_TYPES = (1, 2)  # primary, supplementary
_RECORD_DATE = bytes((100, 1, 1, 0, 0, 0, 0))  # 2000-01-01 00:00:00 UTC
_VOLUME_DATES = 4 * (b"0" * 16 + b"\0")  # creation, modification, expiration, effective: unset


def make_seed(path: Path, files: Mapping[str, bytes], *, report: Report = ignore) -> bool:
    """Write a seed image of these files, by name, unless it is there already.

    Returns whether it was written. It appears whole or not at all, with mode 0600, for it may
    hold secrets. Raises StorageError for an unsuitable file name and what the kernel refuses.
    """
    image = make_seed_image(files)
    try:
        if path.exists() and path.read_bytes() == image:
            return False
        with open_new_file(path, replace=True, report=report) as new:
            report("write seed")
            with os.fdopen(new.fd, "wb", closefd=False) as file:
                file.write(image)
    except OSError as error:
        raise StorageError.from_os_error(f"write seed {path}", error) from error
    return True


def make_seed_image(files: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a seed image: the same for the same files, whenever and wherever made.

    Raises StorageError for an unsuitable file name.
    """
    import pycdlib  # noqa: PLC0415 costs 60 ms, and few programs that import us make seeds

    for name in files:
        _check_file_name(name)
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    for index, (name, content) in enumerate(sorted(files.items())):
        iso.add_fp(
            BytesIO(content),
            len(content),
            iso_path=f"/FILE{index}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
        )
    out = BytesIO()
    iso.write_fp(out)
    iso.close()
    return _without_dates(out.getvalue())


def _check_file_name(name: str) -> None:
    if not name or name in {".", ".."} or "/" in name or not name.isprintable():
        raise StorageError(f"{name!r} is not a file name", "give plain names, like user-data")
    if len(name.encode()) > MAX_NAME:
        raise StorageError(f"{name!r} is longer than {MAX_NAME} bytes", "shorten it")


def _without_dates(image: bytes) -> bytes:
    """Set every date in an image of one directory to a fixed one."""
    data = bytearray(image)
    for descriptor in _descriptors(data):
        data[descriptor + 813 : descriptor + 813 + len(_VOLUME_DATES)] = _VOLUME_DATES
        root = descriptor + 156
        _set_record_dates(data, root)
        start, length = _number(data, root + 2) * _SECTOR, _number(data, root + 10)
        for record in _records(data, start, start + length):
            _set_record_dates(data, record)
    return bytes(data)


def _descriptors(data: bytearray) -> Iterator[int]:
    """Yield where each volume descriptor begins: one for Rock Ridge, one for Joliet."""
    at = _FIRST_DESCRIPTOR
    while data[at] in _DESCRIPTOR_TYPES:
        yield at
        at += _SECTOR


def _number(data: bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _records(data: bytearray, at: int, end: int) -> Iterator[int]:
    """Yield where each directory record begins; none reaches over the end of a sector."""
    while at < end:
        if data[at]:
            yield at
            at += data[at]
        else:
            at += _SECTOR - at % _SECTOR


def _set_record_dates(data: bytearray, record: int) -> None:
    data[record + 18 : record + 25] = _RECORD_DATE
    name_length = data[record + 32]
    at, end = record + 33 + (name_length | 1), record + data[record]
    while at + 4 <= end and data[at + 2]:  # the entries of SUSP: name, length, version, content
        length = data[at + 2]
        if data[at : at + 2] == b"TF":
            data[at + 5 : at + length] = _RECORD_DATE * ((length - 5) // len(_RECORD_DATE))
        at += length
