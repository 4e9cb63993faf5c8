"""Pools: places where volumes lie, of several kinds behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qorch_storage.plan import PoolPlan, PoolType
from qorch_storage.pool.base import NewVolume, Pool
from qorch_storage.pool.dir import DirPool
from qorch_storage.pool.group import LvmPool
from qorch_storage.pool.lvm import make_linear_pool
from qorch_storage.pool.thin import make_thin_pool

__all__ = ["DirPool", "LvmPool", "NewVolume", "Pool", "make_pool"]

_KINDS: Mapping[PoolType, Callable[[PoolPlan], Pool]] = {
    PoolType.DIR: DirPool.from_plan,
    PoolType.LVM: make_linear_pool,
    PoolType.LVM_THIN: make_thin_pool,
}


def make_pool(plan: PoolPlan) -> Pool:
    """Make the pool that a plan describes; nothing is looked at or touched yet."""
    return _KINDS[plan.type](plan)
