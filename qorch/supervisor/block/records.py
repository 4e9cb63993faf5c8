"""The records of images and the journals of operations, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from qorch.block.record import Journal, Record
from qorch.paths import StateDir
from qorch.plan import DiskImages
from qorch.state import read_json, write_json
from qorch.units import Name
from qorch_storage.files import remove_temporaries


@attrs.frozen
class Records:
    """One file for each machine that has a record, another one while something is done to it."""

    state: StateDir

    def read(self, name: str) -> Record:
        """What is known of a machine's images; an empty record if nothing is."""
        path = self.state.machine_images(name)
        return read_json(path, Record) if path.is_file() else Record()

    def write(self, name: str, record: Record) -> None:
        """Store a record; an empty one is none."""
        path = self.state.machine_images(name)
        if record.is_empty:
            path.unlink(missing_ok=True)
        else:
            write_json(path, record)

    def read_images(self) -> Mapping[Name, tuple[DiskImages, ...]]:
        """Where the data of all machines' disks is, for those where that is worth saying."""
        names = [path.stem for path in self._directory.glob("*.json")]
        return {Name(name): self.read(name).disks for name in sorted(names)}

    def read_journal(self, name: str) -> Journal | None:
        """What was begun with a machine and not ended."""
        path = self._journal(name)
        return read_json(path, Journal) if path.is_file() else None

    def write_journal(self, name: str, journal: Journal) -> None:
        """Say what is about to be done."""
        write_json(self._journal(name), journal)

    def clear_journal(self, name: str) -> None:
        """Say that it is done, or undone."""
        self._journal(name).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove what somebody who died was making here. Blocking."""
        remove_temporaries(self._directory)

    @property
    def _directory(self) -> Path:
        return self.state.data / "images"

    def _journal(self, name: str) -> Path:
        return self._directory / f"{name}.journal"
