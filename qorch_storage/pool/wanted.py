"""What is wanted of a volume beside what is there: sizes decided, differences told."""

from __future__ import annotations

import os
from pathlib import Path

from qorch_storage.errors import StorageError
from qorch_storage.image import find_chain, resolve_backing
from qorch_storage.info import ImageInfo
from qorch_storage.plan import Backing, VolumePlan

_MAX_BACKING_NAME = 1023  # bytes, by the qcow2 format


def decide_size(plan: VolumePlan) -> int:
    """Return the size in bytes of a volume to be made, whose backing chain must be sound."""
    base = _check_backing(plan.backing) if plan.backing else 0
    if plan.size is not None and plan.size < base:
        raise StorageError(
            f"volume {plan.name}: {plan.size} bytes is less than its backing file has ({base})",
            "leave the size out, or give at least that of the backing file",
        )
    return plan.size or base


def check_same(image: ImageInfo, plan: VolumePlan) -> None:
    """Refuse a volume that is there, but not as planned."""
    differences = []
    if plan.size is not None and image.virtual_size < plan.size:
        differences.append(f"it has {image.virtual_size} bytes, not {plan.size}")
    backing = resolve_backing(image)
    if not _same_backing(backing, plan.backing):
        differences.append(f"it builds on {_describe(backing)}, not on {_describe(plan.backing)}")
    if image.encrypted is not (plan.passphrase_file is not None):
        differences.append(f"it is {'' if image.encrypted else 'not '}encrypted")
    if differences:
        raise StorageError(
            f"volume {image.path} exists, but differs: {'; '.join(differences)}",
            "remove it or choose another name, or ask for what is there",
        )


def check_passphrase(path: Path) -> None:
    """Refuse a passphrase's file that QEMU could not use."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise StorageError.from_os_error(f"read the passphrase {path}", error) from error
    if empty:
        raise StorageError(f"passphrase file {path} is empty", "write the passphrase into it")


def describe_lack(where: str, needed: int, free: int) -> StorageError:
    """Say how much room is missing."""
    return StorageError(
        f"{where} is full: {needed} bytes are needed, {free} are free, {needed - free} are missing",
        "make space there, or choose another pool",
    )


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


def _same_backing(one: Backing | None, other: Backing | None) -> bool:
    if one is None or other is None:
        return one is other
    same_file = os.path.realpath(one.path) == os.path.realpath(other.path)
    return same_file and one.format is other.format


def _describe(backing: Backing | None) -> str:
    return f"{backing.path} ({backing.format})" if backing else "nothing"
