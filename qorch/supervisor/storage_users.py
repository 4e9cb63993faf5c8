"""Which machines have which pools and images: what they use is not changed under them."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.supervisor.block.records import Records
from qorch.supervisor.definitions import Definitions
from qorch.units import Name


@attrs.frozen
class Users:
    """The machines that are defined, by what their disks are and their snapshots need."""

    _definitions: Definitions
    _records: Records

    def of_pool(self, pool: str) -> list[Name]:
        """Those that have disks in a pool."""
        return [
            name
            for name, plan in self._definitions.plans.items()
            if any(disk.pool is not None and disk.pool.name == pool for disk in plan.disks)
        ]

    def of_paths(self) -> dict[Path, list[Name]]:
        """Those that have an image as a disk, below one or as a snapshot's, for each image."""
        users: dict[Path, list[Name]] = {}
        for name, plan in self._definitions.plans.items():
            paths = {image.path for disk in plan.disks for image in disk.chain}
            for path in paths | self._records.read(name).named_images():
                users.setdefault(path, []).append(name)
        return users
