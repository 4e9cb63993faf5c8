"""What a vm.toml says about pools and volumes."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.units import Name, Size
from qorch_storage.plan import ImageFormat, PoolType

DEFAULT_POOL = Name("default")


@attrs.frozen(kw_only=True)
class PoolSpec:
    """`[pool.NAME]`: where volumes lie."""

    type: PoolType = PoolType.DIR
    path: Path


@attrs.frozen(kw_only=True)
class VolumeSpec:
    """`[volume.NAME]`: a volume of its own, for any machine's disk to use."""

    pool: Name = DEFAULT_POOL
    size: Size | None = None
    format: ImageFormat | None = None
    backing: Path | None = None
    backing_format: ImageFormat | None = None
