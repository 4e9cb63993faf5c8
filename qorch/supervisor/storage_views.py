"""How pools and volumes are shown. Keys are a contract."""

from __future__ import annotations

from collections.abc import Sequence

from qorch_storage.errors import StorageError
from qorch_storage.info import Space, Volume
from qorch_storage.plan import PoolPlan
from qorch_storage.pool import Pool
from qorch_storage.tree import Node


def make_pool_row(plan: PoolPlan, pool: Pool) -> dict[str, object]:
    """One row of `qorch pool ls --json`; sizes in bytes. One that is not there has an `error`."""
    space, error, volumes = None, None, 0
    try:
        space, volumes = pool.find_space(), len(pool.find_volumes())
    except StorageError as failed:
        error = failed.message
    return {
        "name": plan.name,
        "type": plan.type.value,
        "path": str(plan.path),
        "vg": plan.vg,
        "thin_pool": plan.thin_pool,
        "volumes": volumes,
        **_describe_space(space),
        "error": error,
    }


def make_volume_row(volume: Volume, machines: Sequence[str]) -> dict[str, object]:
    """One row of `qorch volume ls --json`; sizes in bytes."""
    image = volume.image
    return {
        "pool": volume.pool,
        "name": volume.name,
        "path": str(volume.path),
        "format": volume.format and volume.format.value,
        "size": image and image.virtual_size,
        "allocation": image and image.allocation,
        "backing": image and image.backing_file,
        "encrypted": bool(image and image.encrypted),
        "ours": volume.ours,
        "machines": sorted(machines),
        "problem": volume.problem,
    }


def make_node(node: Node) -> dict[str, object]:
    """An image in `qorch volume tree --json`; `pool` and `name` are null if it lies in no pool."""
    return {
        "path": str(node.path),
        "pool": node.volume and node.volume.pool,
        "name": node.volume and node.volume.name,
        "children": [make_node(child) for child in node.children],
    }


def _describe_space(space: Space | None) -> dict[str, object]:
    return {
        "capacity": space and space.capacity,
        "allocation": space and space.allocation,
        "free": space and space.free,
        "promised": space and space.promised,
        "overcommit": space and round(space.overcommit, 3),
        "metadata_percent": space and space.metadata_percent,
    }
