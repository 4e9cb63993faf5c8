"""What a vm.toml says about pools and volumes."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.units import Name, Size
from qorch_storage.plan import Compression, ImageFormat, PoolType, Preallocation

DEFAULT_POOL = Name("default")


@attrs.frozen(kw_only=True)
class ExtendSpec:
    """`extend = { … }`: how a full thin pool, or a full LV, gets more of its volume group."""

    step: Size
    limit: Size | None = None


@attrs.frozen(kw_only=True)
class PoolSpec:
    """`[pool.NAME]`: where volumes lie."""

    type: PoolType = PoolType.DIR
    path: Path | None = None
    vg: str | None = None
    thin_pool: str | None = None
    extend: ExtendSpec | None = None


@attrs.frozen(kw_only=True)
class VolumeSpec:
    """`[volume.NAME]`: a volume of its own, for any machine's disk to use."""

    pool: Name = DEFAULT_POOL
    size: Size | None = None
    format: ImageFormat | None = None
    backing: Path | None = None
    backing_format: ImageFormat | None = None
    preallocation: Preallocation = Preallocation.OFF
    cluster_size: Size | None = None
    compression: Compression | None = None
    lazy_refcounts: bool = False
    passphrase_file: Path | None = None
