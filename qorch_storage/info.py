"""What was found: images, volumes, the space of pools. Values, known to whoever plans with them."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch_storage.plan import ImageFormat


@attrs.frozen(kw_only=True)
class ImageInfo:
    """One image as it is: sizes in bytes, names as its header has them.

    `header_format` is what the first bytes look like. It says nothing about a raw image, whose
    first bytes the guest writes: trust `format`, which was given. `real_path` and `real_backing`
    are where it and its backing file lie, with all symbolic links followed.
    """

    path: Path
    format: ImageFormat
    header_format: ImageFormat
    virtual_size: int
    allocation: int
    real_path: Path | None = None
    real_backing: Path | None = None
    backing_file: str | None = None
    backing_format: str | None = None
    data_file: str | None = None
    encrypted: bool = False
    dirty: bool = False
    corrupt: bool = False


@attrs.frozen(kw_only=True)
class Volume:
    """One volume of a pool.

    `image` is `None` if looking into the format would cost a process, or if the volume cannot be
    understood: `problem` then says why. `ours` tells whether we made it, where the pool knows.
    """

    name: str
    path: Path
    format: ImageFormat | None
    image: ImageInfo | None
    problem: str | None = None
    pool: str = ""
    ours: bool = True
    origin: str | None = None


@attrs.frozen(kw_only=True)
class Space:
    """The room of a pool in bytes.

    `allocation` is what all that lies there takes, whoever made it, `promised` what the volumes
    may grow to. `metadata_percent` tells how full a thin pool's own records are.
    """

    capacity: int
    allocation: int
    free: int
    promised: int
    metadata_percent: float | None = None

    @property
    def overcommit(self) -> float:
        """How many times the capacity is promised: above 1, the pool can become full."""
        return self.promised / self.capacity if self.capacity else 0.0
