"""What volumes may be called: in every kind of pool, and in LVM, which has words of its own."""

from __future__ import annotations

import re

from qorch_storage.errors import StorageError

MAX_NAME = 200  # bytes: leaves room for a suffix within the 255 of a directory entry

_LVM_NAME = re.compile(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]*", re.ASCII)
_LVM_TAKEN = (  # lvm(8): names, or parts of names, of LVs that LVM makes for itself
    *("_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog"),
    *("_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"),
)
_MAX_DEVICE_NAME = 126  # DM_NAME_LEN less the NUL and the hyphen between VG and LV


def check_volume_name(name: str) -> None:
    """Refuse a name that cannot be a volume's in every kind of pool.

    Raises StorageError.
    """
    problem = _find_name_problem(name)
    if problem:
        raise StorageError(
            f"{name!r} is not a volume name: {problem}",
            "use letters, digits and `.`, `_`, `-`, beginning with a letter or digit",
        )


def _find_name_problem(name: str) -> str | None:
    if not name:
        return "it is empty"
    if "/" in name:
        return "it contains a slash"
    if name[0] in ".-":
        return f"it begins with {name[0]!r}"
    if not name.isprintable():
        return "it contains characters that cannot be printed"
    if len(name.encode()) > MAX_NAME:
        return f"it is longer than {MAX_NAME} bytes"
    return None


def check_vg_name(name: str) -> None:
    """Refuse what cannot be the name of a volume group. Raises StorageError."""
    if not _LVM_NAME.fullmatch(name) or name in {".", ".."}:
        raise StorageError(f"{name!r} is not the name of a volume group", "see vgs")


def check_lv_name(name: str, vg: str) -> None:
    """Refuse what LVM would not take as a logical volume's name in that group, or takes itself.

    Raises StorageError.
    """
    hint = "use letters, digits and `.`, `_`, `-`, beginning with a letter or digit"
    if not _LVM_NAME.fullmatch(name) or name[0] == ".":
        raise StorageError(f"{name!r} is not the name of a logical volume", hint)
    if name.startswith(("snapshot", "pvmove")) or any(taken in name for taken in _LVM_TAKEN):
        raise StorageError(f"{name!r} is a name that LVM keeps for itself", "choose another")
    if sum(len(part) + part.count("-") for part in (vg, name)) > _MAX_DEVICE_NAME:
        raise StorageError(f"{name!r} is longer than a logical volume's name can be", "shorten it")
