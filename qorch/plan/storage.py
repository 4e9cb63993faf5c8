"""Pools, volumes and disks: which image each disk is, made of what, and who else has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.paths import StateDir
from qorch.plan.values import Defined
from qorch.spec import DEFAULT_POOL, DiskSpec, PoolSpec, Spec, VolumeSpec
from qorch.units import Name, Size
from qorch_storage.errors import StorageError
from qorch_storage.info import ImageInfo
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, PoolType, VolumePlan
from qorch_storage.policy import ExtendPolicy
from qorch_storage.tree import find_outside

Volume = tuple[PoolPlan, VolumePlan]


@attrs.frozen
class Storage:
    """The pools and volumes of a document, and the host's images: what disks are planned from.

    `named` has those that the document has: if one could not be planned, that was told.
    """

    facts: Facts
    pools: Mapping[Name, PoolPlan]
    volumes: Mapping[Name, Volume]
    problems: list[Problem]
    named: frozenset[str] = frozenset()

    @classmethod
    def from_spec(
        cls, spec: Spec, facts: Facts, defined: Defined, problems: list[Problem]
    ) -> Storage:
        """Plan the document's pools and volumes."""
        pools = plan_pools(spec, facts.state, problems, defined.pools)
        problems += _find_changed_pools(spec, pools, defined)
        tables = {"pool": spec.pools, "volume": spec.volumes}
        named = frozenset(f"{table}.{name}" for table, items in tables.items() for name in items)
        storage = cls(facts, pools, {}, problems, named)
        volumes = {
            name: planned
            for name, volume in spec.volumes.items()
            if (planned := storage.plan_volume(name, volume, f"volume.{name}"))
        }
        return attrs.evolve(storage, volumes=volumes)

    def find_chain(
        self, machine: Name, index: int, disk: DiskSpec
    ) -> tuple[tuple[Backing, ...], Volume | None]:
        """The images of a disk that is on this host, and its volume if it is one of ours.

        There are none after a problem was added.
        """
        path, id_ = f"vm.{machine}.disk[{index}]", f"disk{index}"
        if disk.path is not None:
            backing = self._image(disk.path, f"{path}.path")
            return ((backing,) if disk.chain else self._chain(backing)), None
        if disk.volume is not None:
            volume = self.volumes.get(disk.volume)
            if volume is None and f"volume.{disk.volume}" not in self.named:
                known = ", ".join(self.volumes) or f'[volume.{disk.volume}] size = "10GiB" makes it'
                message = f"there is no volume {disk.volume!r} in this file"
                self._add(f"{path}.volume", message, f"known: {known}" if self.volumes else known)
            return self._volume_chain(volume), volume
        wanted = VolumeSpec(
            pool=disk.pool,
            size=disk.size,
            format=disk.format,
            backing=disk.backing,
            backing_format=disk.backing_format,
            passphrase_file=disk.passphrase_file,
        )
        volume = self.plan_volume(f"{machine}-{id_}", wanted, path)
        return self._volume_chain(volume), volume

    def plan_volume(self, name: str, volume: VolumeSpec, path: str) -> Volume | None:
        """One volume; None after adding a problem."""
        pool = self.pools.get(volume.pool)
        if pool is None:
            if f"pool.{volume.pool}" in self.named:
                return None
            known = ", ".join(self.pools)
            self._add(f"{path}.pool", f"there is no pool {volume.pool!r}", f"known pools: {known}")
            return None
        backing = None
        if volume.backing is not None:
            backing = self._image(volume.backing, f"{path}.backing")
        if "qemu-img" not in self.facts.programs:
            message, hint = "qemu-img is not installed", "apt-get install qemu-utils"
            self.problems.append(Problem(path, message, hint, on_host=True))
        try:
            return pool, VolumePlan(
                pool=volume.pool,
                name=name,
                format=volume.format or _default_format(pool),
                size=_bytes(volume.size),
                backing=backing,
                preallocation=volume.preallocation,
                cluster_size=_bytes(volume.cluster_size),
                compression=volume.compression,
                lazy_refcounts=volume.lazy_refcounts,
                passphrase_file=volume.passphrase_file,
            )
        except StorageError as error:
            self._add(path, error.message, error.hint)
            return None

    def _image(self, path: Path, where: str) -> Backing:
        """An image that must be there."""
        image = self.facts.images[path]
        if image.error is not None:
            self.problems.append(Problem(where, image.error, image.hint, on_host=True))
        self._check_places(image.chain, where)
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

    def _check_places(self, chain: Sequence[ImageInfo], where: str) -> None:
        """An image may claim any file of the host as its parent: only what is known is believed."""
        images = [image.chain[0] for image in self.facts.images.values() if image.chain]
        named = {image.real_path or image.path for image in images}
        outside = find_outside(chain, self.facts.places, named)
        if outside is not None:
            self._add(
                where,
                f"{chain[0].path} builds on {outside.path}, which lies in no pool",
                f"if you trust it, make it one: [pool.NAME] path = {str(outside.path.parent)!r}",
            )

    def _add(self, path: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(path, message, hint))


def plan_pools(
    spec: Spec,
    state: StateDir,
    problems: list[Problem] | None = None,
    defined: Mapping[Name, PoolPlan] | None = None,
) -> dict[Name, PoolPlan]:
    """The document's pools, those that are defined already, and the built-in one.

    Those that cannot be are left out, and a problem is added.
    """
    pools = {DEFAULT_POOL: PoolSpec(path=state.default_pool), **spec.pools}
    plans = {}
    for name, pool in pools.items():
        path = {} if pool.path is None else {"path": pool.path}
        try:
            plans[name] = PoolPlan(
                name=name,
                type=pool.type,
                vg=pool.vg,
                thin_pool=pool.thin_pool,
                owner=state.owner,
                extend=_plan_extend(pool),
                **path,
            )
        except StorageError as error:
            if problems is not None:
                problems.append(Problem(f"pool.{name}", error.message, error.hint))
    return {
        **plans,
        **{name: pool for name, pool in (defined or {}).items() if name not in spec.pools},
    }


def name_volumes(
    spec: Spec, state: StateDir, defined: Mapping[Name, PoolPlan]
) -> Iterator[tuple[PoolPlan, str, ImageFormat]]:
    """Where the document's own volumes lie: pool, name and format of each."""
    pools = plan_pools(spec, state, defined=defined)
    for name, volume in spec.volumes.items():
        if (pool := pools.get(volume.pool)) is not None:
            yield pool, name, volume.format or _default_format(pool)


def _find_changed_pools(
    spec: Spec, pools: Mapping[Name, PoolPlan], defined: Defined
) -> Iterator[Problem]:
    """Pools that would lie elsewhere than the disks that other documents' machines have in them."""
    for name in spec.pools:
        old, new = defined.pools.get(name), pools.get(name)
        if old is None or new is None or attrs.evolve(old, extend=new.extend) == new:
            continue
        users = [
            machine
            for machine, plan in defined.machines.items()
            if machine not in spec.vms
            and any(disk.pool is not None and disk.pool.name == name for disk in plan.disks)
        ]
        if users:
            yield Problem(
                f"pool.{name}",
                f"is defined differently, and {', '.join(users)} has disks in it",
                "give the new pool another name",
            )


def _bytes(size: Size | None) -> int | None:
    """A size as stored plans have it: a number, no text."""
    return None if size is None else int(size)


def _plan_extend(pool: PoolSpec) -> ExtendPolicy | None:
    if pool.extend is None:
        return None
    limit = pool.extend.limit
    return ExtendPolicy(step=int(pool.extend.step), limit=None if limit is None else int(limit))


def _default_format(pool: PoolPlan) -> ImageFormat:
    """A file is qcow2 unless it is said otherwise; a logical volume can only be raw."""
    return ImageFormat.QCOW2 if pool.type is PoolType.DIR else ImageFormat.RAW
