"""Pools, and what volumes have beyond what a disk's own volume has."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.errors import Problem
from qorch.spec import PoolSpec
from qorch_storage.plan import PoolType

_KEYS = {  # what a pool of each type has, and has to have
    PoolType.DIR: ("path",),
    PoolType.LVM: ("vg",),
    PoolType.LVM_THIN: ("vg", "thin_pool"),
}


def find_pool_problems(pool: PoolSpec) -> Iterator[Problem]:
    """What is wrong with a pool."""
    for key in ("path", "vg", "thin_pool"):
        given, wanted = getattr(pool, key) is not None, key in _KEYS[pool.type]
        if wanted and not given:
            yield Problem(
                f".{key}", f"is missing: a pool of type {pool.type} has one", f"{key} = …"
            )
        if given and not wanted:
            yield Problem(f".{key}", f"does not go with type {pool.type}", "leave it out")
    if pool.extend is not None and pool.type is PoolType.DIR:
        yield Problem(
            ".extend", "does not go with type dir: files grow by themselves", "leave it out"
        )
    if pool.extend is not None and pool.extend.step <= 0:
        yield Problem(".extend.step", "is nothing", "give a size above 0")
