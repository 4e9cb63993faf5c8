"""What the kinds of pools in a volume group differ in."""

from __future__ import annotations

from typing import Protocol

from qorch_storage.errors import StorageError
from qorch_storage.info import Space
from qorch_storage.lvm.report import LogicalVolume, VolumeGroup


class Kind(Protocol):
    """What tells lvm from lvm-thin."""

    @property
    def shares_blocks(self) -> bool:
        """Whether volumes can share their blocks with others: thin snapshots."""

    def make_words(self, size: int) -> list[str]:
        """What lvcreate is told to make an LV of that size."""

    def is_mine(self, lv: LogicalVolume) -> bool:
        """Whether an LV is one of the pool's volumes."""

    def make_space(self, group: VolumeGroup) -> Space:
        """How much room there is. Raises StorageError if there is no such pool."""

    def find_lack(self, group: VolumeGroup, size: int) -> StorageError | None:
        """Why no LV of that size can be made."""

    def find_zeroed(self) -> bool:
        """Look whether a new LV reads as zeroes. Raises StorageError if there is no such pool."""

    def name_growing(self, volume: str | None) -> str:
        """The LV that grows if a volume, or all of them, need more room. Raises StorageError."""
