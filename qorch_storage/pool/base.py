"""What every kind of pool can do. A further kind is one more file like dir.py or lvm.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import attrs

from qorch_storage.errors import StorageError
from qorch_storage.files import Report, ignore
from qorch_storage.info import Space, Volume
from qorch_storage.plan import ImageFormat, VolumePlan
from qorch_storage.policy import ExtendPolicy


@attrs.frozen(kw_only=True)
class NewVolume:
    """A volume in the making, under a name that is not its own yet.

    `device` tells that the place is there already, as large as the volume shall be, and has to be
    written into (`qemu-img convert -n`); `zeroed` that it reads as zeroes. Programs that write into
    it inherit `keep_fds`, which keep others from taking it for left over.
    """

    path: Path
    keep_fds: Sequence[int] = ()
    device: bool = False
    zeroed: bool = False


class Pool(Protocol):
    """A place where volumes lie.

    `report` is called with a step's name before the step touches the host. What fails raises
    StorageError and leaves the host as it was.
    """

    @property
    def name(self) -> str:
        """What the pool is called."""

    @property
    def path(self) -> Path:
        """The directory in which its volumes appear."""

    @property
    def has_overlays(self) -> bool:
        """Whether its volumes can build on others: raw ones, as all of LVM's are, cannot."""

    @property
    def default_format(self) -> ImageFormat:
        """The format of volumes of which it is not said."""

    def volume_path(self, name: str, image_format: ImageFormat) -> Path:
        """Return where a volume of that name and format lies, whether it exists or not."""

    def find_space(self) -> Space:
        """Look how much room there is."""

    def find_zeroed(self) -> bool:
        """Look whether new volumes read as zeroes, or as what was in their place before."""

    def find_volumes(self) -> tuple[Volume, ...]:
        """List the volumes by name, without a process for each."""

    def find_volume(self, name: str) -> Volume | None:
        """The volume of exactly that name, as cheaply as it can be found; `None` if there is none.

        It costs no process if the volume is ready for use. `ours` is not looked at: the verbs that
        change a volume do that.
        """

    def check_format(self, image_format: ImageFormat) -> None:
        """Refuse a format that volumes of this pool cannot have."""

    def ensure_volume(self, plan: VolumePlan, *, report: Report = ignore) -> Path:
        """Make a volume unless it exists as planned, and return its path."""

    def open_new_volume(
        self, plan: VolumePlan, size: int, *, report: Report = ignore
    ) -> AbstractContextManager[NewVolume]:
        """Make room for a volume that gets its name when the block ends without an exception.

        What is put there is up to the block: nothing is in it. A name that is taken is an error.
        """

    def resize_volume(self, volume: Volume, size: int, *, report: Report = ignore) -> None:
        """Make a volume larger or smaller, to `size` bytes."""

    def snapshot_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Make a volume that shares all blocks with another one until either is written to."""

    def rename_volume(self, volume: Volume, name: str, *, report: Report = ignore) -> Path:
        """Give a volume another name, and return its new path."""

    def remove_volume(
        self, name: str, image_format: ImageFormat, *, report: Report = ignore
    ) -> bool:
        """Remove a volume of that name and format and nothing else; return whether it existed."""

    def drop_volume(self, volume: Volume, *, report: Report = ignore) -> bool:
        """Remove a volume that was found; return whether it was still there."""

    def wipe_volume(self, volume: Volume, *, report: Report = ignore) -> None:
        """Overwrite a volume and remove it; if it is killed, `remove_stale` goes on."""

    def extend(self, volume: str | None, policy: ExtendPolicy, *, report: Report = ignore) -> int:
        """Give a full pool, or the volume of that name, more room, and return how many bytes.

        0 means that the policy, or what there is, allows no more.
        """

    def remove_stale(self) -> tuple[Path, ...]:
        """Remove what makers that were killed left behind, and return it."""


@contextmanager
def clear_errors(action: str) -> Iterator[None]:
    """Turn the kernel's refusals into ours; a name that is taken is for the caller to judge."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError.from_os_error(action, error) from error


def taken(path: Path) -> StorageError:
    """Say that a name is taken."""
    return StorageError(f"volume {path} exists already", "choose another name, or remove it first")
