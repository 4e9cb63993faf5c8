"""Pools, volumes and disks: which image each disk is, made of what, and who else has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.paths import StateDir
from qorch.plan.values import DiskPlan
from qorch.spec import DEFAULT_POOL, DiskSpec, PoolSpec, Spec, VolumeSpec
from qorch.units import Name
from qorch_storage.errors import StorageError
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, VolumePlan

Volume = tuple[PoolPlan, VolumePlan]


@attrs.frozen
class Storage:
    """The pools and volumes of a document, and the host's images: what disks are planned from."""

    facts: Facts
    pools: Mapping[Name, PoolPlan]
    volumes: Mapping[Name, Volume]
    problems: list[Problem]

    @classmethod
    def from_spec(cls, spec: Spec, facts: Facts, problems: list[Problem]) -> Storage:
        """Plan the document's pools and volumes."""
        pools = plan_pools(spec, facts.state)
        storage = cls(facts, pools, {}, problems)
        volumes = {
            name: planned
            for name, volume in spec.volumes.items()
            if (planned := storage.plan_volume(name, volume, f"volume.{name}"))
        }
        return attrs.evolve(storage, volumes=volumes)

    def plan_disk(self, machine: Name, index: int, disk: DiskSpec) -> DiskPlan | None:
        """One disk of a machine; None after adding a problem."""
        path, id_ = f"vm.{machine}.disk[{index}]", f"disk{index}"
        if disk.path is not None:
            backing = self._image(disk.path, f"{path}.path")
            chain, volume = self._chain(backing), None
        elif disk.volume is not None:
            volume = self.volumes.get(disk.volume)
            if volume is None:
                self._add(f"{path}.volume", f"there is no volume {disk.volume!r} in this file")
            chain = self._volume_chain(volume)
        else:
            wanted = VolumeSpec(
                pool=disk.pool,
                size=disk.size,
                format=disk.format,
                backing=disk.backing,
                backing_format=disk.backing_format,
            )
            volume = self.plan_volume(f"{machine}-{id_}", wanted, path)
            chain = self._volume_chain(volume)
        if not chain:
            return None
        return DiskPlan(
            id=id_,
            chain=chain,
            read_only=disk.read_only,
            serial=disk.serial,
            pool=volume and volume[0],
            volume=volume and volume[1],
        )

    def plan_volume(self, name: str, volume: VolumeSpec, path: str) -> Volume | None:
        """One volume; None after adding a problem."""
        pool = self.pools.get(volume.pool)
        if pool is None:
            known = ", ".join(self.pools)
            self._add(f"{path}.pool", f"there is no pool {volume.pool!r}", f"known pools: {known}")
            return None
        backing = None
        if volume.backing is not None:
            backing = self._image(volume.backing, f"{path}.backing")
            if backing is None:
                return None
        if "qemu-img" not in self.facts.programs:
            self._add(path, "qemu-img is not installed", "apt-get install qemu-utils")
            return None
        try:
            return pool, VolumePlan(
                pool=volume.pool,
                name=name,
                format=volume.format or ImageFormat.QCOW2,
                size=None if volume.size is None else int(volume.size),  # bytes, no text
                backing=backing,
            )
        except StorageError as error:
            self._add(path, error.message, error.hint)
            return None

    def _image(self, path: Path, where: str) -> Backing | None:
        """An image that must be there."""
        image = self.facts.images[path]
        if image.error is not None:
            self._add(where, image.error, image.hint)
            return None
        return Backing(path=path, format=image.chain[0].format)

    def _chain(self, top: Backing | None) -> tuple[Backing, ...]:
        """The images from `top` down, as their headers name them."""
        if top is None:
            return ()
        return tuple(
            Backing(path=info.path, format=info.format)
            for info in self.facts.images[top.path].chain
        )

    def _volume_chain(self, volume: Volume | None) -> tuple[Backing, ...]:
        if volume is None:
            return ()
        pool, plan = volume
        top = Backing(path=pool.volume_path(plan.name, plan.format), format=plan.format)
        return top, *self._chain(plan.backing)

    def _add(self, path: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(path, message, hint))


def plan_pools(spec: Spec, state: StateDir) -> dict[Name, PoolPlan]:
    """The document's pools, and the built-in one unless the document has its own of that name."""
    pools = {DEFAULT_POOL: PoolSpec(path=state.default_pool), **spec.pools}
    return {
        name: PoolPlan(name=name, type=pool.type, path=pool.path) for name, pool in pools.items()
    }
