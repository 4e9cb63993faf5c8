"""All pools at once: which volume is meant, what builds on it, who has it open."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

import attrs

from qorch_storage.errors import MissingError, StorageError
from qorch_storage.image import find_chain, has_in_heads
from qorch_storage.info import ImageInfo, Volume
from qorch_storage.locks import check_unused
from qorch_storage.names import check_volume_name
from qorch_storage.plan import Backing, PoolPlan, find_format
from qorch_storage.pool import Pool, make_pool
from qorch_storage.tree import find_dependents, find_outside


@attrs.frozen
class Pools:
    """Pools by name, and images outside of them that may be built on, for somebody named them."""

    pools: Mapping[str, Pool]
    named: frozenset[Path] = frozenset()

    @classmethod
    def from_plans(cls, plans: Iterable[PoolPlan], named: Iterable[Path] = ()) -> Pools:
        """Take the pools that plans describe; nothing is looked at yet."""
        return cls({plan.name: make_pool(plan) for plan in plans}, frozenset(named))

    def __getitem__(self, name: str) -> Pool:
        pool = self.pools.get(name)
        if pool is None:
            known = ", ".join(sorted(self.pools))
            raise MissingError(f"there is no pool {name!r}", f"pools: {known}")
        return pool

    def find_volumes(self) -> tuple[Volume, ...]:
        """All volumes of all pools. Raises StorageError if one pool cannot be listed."""
        return tuple(volume for pool in self.pools.values() for volume in pool.find_volumes())

    def find_volume(self, pool: str, name: str) -> Volume:
        """The volume of that name, or of that name with its format's suffix.

        Raises MissingError; StorageError if several could be meant.
        """
        check_volume_name(name)
        exact = self[pool].find_volume(name)
        if exact is not None:
            return exact
        found = [volume for volume in self[pool].find_volumes() if _stem(volume.name) == name]
        if not found:
            raise MissingError(f"there is no volume {name!r} in pool {pool}", "see qorch volume ls")
        if len(found) > 1:
            names = ", ".join(volume.name for volume in found)
            raise StorageError(f"{name!r} could be each of {names}", "give its whole name")
        return found[0]

    def find_dependents(self, path: Path) -> tuple[Volume, ...]:
        """The volumes, of all pools, that have this image as their backing file.

        Costs no process. Raises StorageError if a pool cannot be listed: it might have some.
        """
        overlays = [pool for pool in self.pools.values() if pool.has_overlays]
        volumes = [volume for pool in overlays for volume in pool.find_volumes()]
        return find_dependents(Path(os.path.realpath(path)), volumes)

    def may_have_dependents(self, path: Path) -> bool:
        """Whether some image's first bytes have this one's name in them: cheap, before each start.

        An overlay that calls it by another name, over a symbolic link, is missed.
        """
        name = os.fsencode(path.name)
        overlays = [pool for pool in self.pools.values() if pool.has_overlays]
        return any(has_in_heads(pool.path, name) for pool in overlays)

    def check_changeable(self, volume: Volume) -> None:
        """Refuse to change a volume that others build on, or that somebody has open.

        Raises StorageError, naming them.
        """
        if dependents := self.find_dependents(volume.path):
            names = ", ".join(f"{other.pool}/{other.name}" for other in dependents[:5])
            more = f" and {len(dependents) - 5} more" if len(dependents) > 5 else ""
            raise StorageError(
                f"volume {volume.pool}/{volume.name} is the backing file of {names}{more}",
                "remove them first, or make them stand alone: qorch volume clone --mode full",
            )
        check_unused(volume.path)

    def find_chain(self, volume: Volume) -> tuple[ImageInfo, ...]:
        """A volume and all it builds on, which must lie in pools or be named.

        Raises StorageError.
        """
        chain = find_chain(volume.path, volume.format)
        self.check_places(chain)
        return chain

    def check_named(self, backing: Backing) -> tuple[ImageInfo, ...]:
        """An image that was named, and all it builds on. Raises StorageError."""
        chain = find_chain(backing.path, backing.format)
        self.check_places(chain)
        return chain

    def check_places(self, chain: tuple[ImageInfo, ...]) -> None:
        """Refuse a chain that leads out of the pools. Raises StorageError."""
        places = [Path(os.path.realpath(pool.path)) for pool in self.pools.values()]
        named = self.named | {Path(os.path.realpath(path)) for path in self.named}
        outside = find_outside(chain, places, named)
        if outside is not None:
            raise StorageError(
                f"{chain[0].path} builds on {outside.path}, which lies in no pool",
                f"if you trust it, make {outside.path.parent} a pool",
            )


def _stem(name: str) -> str:
    return PurePath(name).stem if find_format(name) else name
