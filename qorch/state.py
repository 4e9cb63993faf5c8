"""Definitions on disk: what a user asked for and the plan made of it, written atomically."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs

from qorch.block.record import Saved
from qorch.convert import get_converter, make_plain
from qorch.errors import QorchError
from qorch.paths import StateDir
from qorch.plan import MachinePlan
from qorch.spec import MachineSpec
from qorch.units import Name
from qorch_net.plan import NetworkPlan
from qorch_storage.plan import PoolPlan

VERSION = 1
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Definition:
    """A machine as it is stored: the spec as given, and the plan that keeps its identifiers."""

    version: int
    spec: MachineSpec
    plan: MachinePlan


@attrs.frozen(kw_only=True)
class NetworkDefinition:
    """A network as it is stored; `builtin` ones go with their last machine."""

    version: int
    plan: NetworkPlan
    builtin: bool = False


@attrs.frozen(kw_only=True)
class PoolDefinition:
    """A pool as it is stored."""

    version: int
    plan: PoolPlan


def write_json(path: Path, value: object) -> None:
    """Write a value so that a reader, or a crash, sees the old file or the new one."""
    text = json.dumps(make_plain(value), indent=1)
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
            path.parent.rmdir()
        if isinstance(error, OSError):
            hint = "make space, or choose another --state-dir"
            raise QorchError(f"cannot write {path}: {error.strerror}", hint) from error
        raise


def read_json(path: Path, kind: type[T]) -> T:
    """Read what `write_json` wrote. Raises QorchError, naming the file, if it does not fit."""
    try:
        return get_converter().structure(_current(json.loads(path.read_text())), kind)
    except Exception as error:
        raise QorchError(
            f"{path} cannot be read: {error}", "it was written by another version, or damaged"
        ) from error


def _current(data: dict[str, Any]) -> dict[str, Any]:
    """Stored data as this version writes it; the place to convert what older ones wrote."""
    version = data.get("version", VERSION)
    if version != VERSION:
        raise ValueError(f"its version is {version}, not {VERSION}")
    return data


@attrs.frozen
class Store:
    """The definitions of a state directory, and the record of what is meant to run."""

    state: StateDir

    def read_machines(self) -> dict[Name, Definition]:
        """All machines that are defined."""
        return dict(self._read(self.state.data / "vm", Definition))

    def read_networks(self) -> dict[Name, NetworkDefinition]:
        """All networks that are defined."""
        return dict(self._read(self.state.data / "network", NetworkDefinition))

    def _read(self, directory: Path, kind: type[T]) -> Iterator[tuple[Name, T]]:
        if directory.is_dir():
            for entry in sorted(directory.iterdir()):
                path = entry / "definition.json"
                if path.is_file():
                    yield Name(entry.name), read_json(path, kind)

    def write_machine(self, definition: Definition) -> None:
        """Store a machine's definition."""
        path = self.state.machine_data(definition.plan.name)
        write_json(path / "definition.json", definition)

    def write_network(self, definition: NetworkDefinition) -> None:
        """Store a network's definition."""
        path = self.state.network_data(definition.plan.name)
        write_json(path / "definition.json", definition)

    def read_pools(self) -> dict[Name, PoolDefinition]:
        """All pools that are defined."""
        directory = self.state.data / "pool"
        paths = sorted(directory.glob("*.json")) if directory.is_dir() else []
        return {Name(path.stem): read_json(path, PoolDefinition) for path in paths}

    def write_pool(self, definition: PoolDefinition) -> None:
        """Store a pool's definition."""
        write_json(self._pool_path(definition.plan.name), definition)

    def remove_pool(self, name: str) -> None:
        """Forget a pool; what lies in it stays."""
        self._pool_path(name).unlink(missing_ok=True)

    def _pool_path(self, name: str) -> Path:
        return self.state.data / "pool" / f"{name}.json"

    def remove_machine(self, name: Name) -> None:
        """Forget a machine, its logs and its seed; the definition goes first."""
        self._remove(self.state.machine_data(name))
        self.forget_run(name)

    def remove_network(self, name: Name) -> None:
        """Forget a network."""
        self._remove(self.state.network_data(name))

    @staticmethod
    def _remove(directory: Path) -> None:
        (directory / "definition.json").unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)

    def remove_remains(self) -> None:
        """End removals that were killed once the definition was gone."""
        for directory in (self.state.data / "vm", self.state.data / "network"):
            for entry in directory.iterdir() if directory.is_dir() else ():
                if not (entry / "definition.json").is_file():
                    shutil.rmtree(entry, ignore_errors=True)

    def write_run(self, plan: MachinePlan) -> None:
        """Record that a machine is being started, and as what."""
        write_json(self.state.machine_run(plan.name) / "plan.json", plan)

    def read_run(self, name: Name) -> MachinePlan | None:
        """What a machine was started as; None if it was not."""
        path = self.state.machine_run(name) / "plan.json"
        return read_json(path, MachinePlan) if path.is_file() else None

    def is_saved(self, name: str) -> bool:
        """Whether a machine goes on from saved memory when it is started."""
        return self.state.machine_saved(name).is_file()

    def read_saved(self, name: str) -> Saved | None:
        """What a machine goes on from when it is started; None if it boots."""
        path = self.state.machine_saved(name)
        return read_json(path, Saved) if path.is_file() else None

    def write_saved(self, name: str, saved: Saved | None) -> None:
        """Say what a machine goes on from, or that it boots."""
        path = self.state.machine_saved(name)
        if saved is None:
            path.unlink(missing_ok=True)
        else:
            write_json(path, saved)

    def find_saved(self) -> list[Name]:
        """The machines that go on from saved memory."""
        return [Name(path.stem) for path in (self.state.data / "images").glob("*.saved")]

    def find_runs(self) -> list[Name]:
        """The machines that were started and not cleaned up after."""
        directory = self.state.run / "vm"
        return [Name(entry.name) for entry in directory.iterdir()] if directory.is_dir() else []

    def forget_run(self, name: Name) -> None:
        """Remove the sockets and the record of a machine that does not run."""
        shutil.rmtree(self.state.machine_run(name), ignore_errors=True)
