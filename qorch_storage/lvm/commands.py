"""Run LVM's programs. Where no udev runs (containers, small hosts) they are told to do without."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qorch_storage.errors import StorageError
from qorch_storage.lvm.report import REPORT_WORDS, VolumeGroup, parse_report
from qorch_storage.run import run, run_unchecked

LOCKS = Path("/run/lock/qorch")
_UDEV = Path("/run/udev/control")
# lvm.conf(5): make device nodes ourselves, and do not wait for a daemon that is not there.
_WITHOUT_UDEV = (
    "activation{udev_sync=0 udev_rules=0} "
    'devices{obtain_device_list_from_udev=0 external_device_info_source="none"}'
)


def run_lvm(command: str, *words: str) -> str:
    """Run one command of LVM and return what it printed. Raises StorageError."""
    return run([command, *_config(), *words])


def find_groups() -> dict[str, VolumeGroup]:
    """Look at all volume groups and logical volumes. Raises StorageError."""
    return _find(())


def find_group(name: str) -> VolumeGroup:
    """Look at one volume group. Raises StorageError if there is none of that name."""
    group = _find((name,)).get(name)
    if group is None:
        raise StorageError(
            f"there is no volume group {name}", f"see vgs; make it: vgcreate {name} DEVICE"
        )
    return group


@contextmanager
def open_group_lock(vg: str) -> Iterator[int]:
    """Be one of those who make volumes in a group; yield a descriptor that children inherit.

    The lock is shared and ends with the last holder, so whoever gets it exclusively knows that no
    maker lives: `try_group_lock`.
    """
    with _open_lock(vg) as fd:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd


@contextmanager
def try_group_lock(vg: str) -> Iterator[bool]:
    """Keep makers out of a group for a moment; yields whether none is at work."""
    with _open_lock(vg) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _open_lock(vg: str) -> Iterator[int]:
    try:
        LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(LOCKS / f"vg-{vg}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError.from_os_error(f"lock volume group {vg}", error) from error
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def _find(names: Sequence[str]) -> dict[str, VolumeGroup]:
    words = ["lvm", *REPORT_WORDS, *_config(), *names]
    done = run_unchecked(words)
    try:
        groups = parse_report(done.stdout)  # of a group that is missing, too: an empty report
    except ValueError:
        raise done.error() from None
    if done.status and not names:
        raise done.error()
    return groups


def _config() -> tuple[str, ...]:
    return () if _UDEV.exists() else ("--config", _WITHOUT_UDEV)
