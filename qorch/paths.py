"""Where qorch keeps its things. Standard library only: the command line imports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class StateDir(NamedTuple):
    """The two directories of one supervisor: what dies with a boot, and what stays."""

    run: Path
    data: Path

    @classmethod
    def from_directory(cls, directory: Path) -> StateDir:
        """Both under one directory, as `--state-dir` asks."""
        directory = directory.resolve()
        return cls(directory / "run", directory / "data")

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, euid: int, home: Path | None = None
    ) -> StateDir:
        """The directories of the user `euid`, by QORCH_STATE_DIR, else by the XDG rules."""
        if directory := environ.get("QORCH_STATE_DIR"):
            return cls.from_directory(Path(directory))
        if euid == 0:
            return cls(Path("/run/qorch"), Path("/var/lib/qorch"))
        home = home or Path.home()
        run = environ.get("XDG_RUNTIME_DIR") or f"/tmp/qorch-{euid}"  # noqa: S108  mode 0700, checked
        data = environ.get("XDG_DATA_HOME") or home / ".local/share"
        return cls(Path(run) / "qorch", Path(data) / "qorch")

    @property
    def owner(self) -> str:
        """The mark on everything this supervisor makes on the host: eight hex digits."""
        import hashlib  # noqa: PLC0415  4 ms that most commands do without

        return hashlib.sha256(os.fsencode(self.data)).hexdigest()[:8]

    @property
    def api_socket(self) -> Path:
        """The control API."""
        return self.run / "api.sock"

    @property
    def supervisor_lock(self) -> Path:
        """Locked (flock) as long as a supervisor lives."""
        return self.run / "supervisor.lock"

    @property
    def start_lock(self) -> Path:
        """Locked by a client while it starts a supervisor."""
        return self.run / "start.lock"

    @property
    def supervisor_log(self) -> Path:
        """What a supervisor in the background has to say."""
        return self.data / "supervisor.log"

    @property
    def default_pool(self) -> Path:
        """The directory of the built-in pool."""
        return self.data / "pool" / "default"

    @property
    def capabilities(self) -> Path:
        """What QEMU binaries said they have."""
        return self.data / "qemu"

    def machine_run(self, name: str) -> Path:
        """Sockets and records of a running machine."""
        return self.run / "vm" / name

    def machine_data(self, name: str) -> Path:
        """Definition, logs and seed of a machine."""
        return self.data / "vm" / name

    def machine_images(self, name: str) -> Path:
        """Where a machine's data and snapshots are; it outlives the machine, as they do."""
        return self.data / "images" / f"{name}.json"

    def machine_variables(self, name: str, suffix: str) -> Path:
        """A machine's UEFI variable store; it outlives the machine, as its disks do."""
        return self.data / "images" / f"{name}.uefi-vars.{suffix}"

    def machine_memory(self, name: str) -> Path:
        """The directory of a machine's memory, one file for each snapshot that has it."""
        return self.data / "images" / f"{name}.memory"

    def machine_saved(self, name: str) -> Path:
        """That a machine goes on from saved memory when it is started; there only if it does."""
        return self.data / "images" / f"{name}.saved"

    def network_run(self, name: str) -> Path:
        """Configuration and leases of a network that is up."""
        return self.run / "network" / name

    def network_data(self, name: str) -> Path:
        """Definition of a network."""
        return self.data / "network" / name
