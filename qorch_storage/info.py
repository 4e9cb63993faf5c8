"""What was found in an image: a value, known to whoever plans with it."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch_storage.plan import ImageFormat


@attrs.frozen(kw_only=True)
class ImageInfo:
    """One image as it is: sizes in bytes, names as its header has them.

    `header_format` is what the first bytes look like. It says nothing about a raw image, whose
    first bytes the guest writes: trust `format`, which was given.
    """

    path: Path
    format: ImageFormat
    header_format: ImageFormat
    virtual_size: int
    allocation: int
    backing_file: str | None = None
    backing_format: str | None = None
    data_file: str | None = None
    encrypted: bool = False
    dirty: bool = False
    corrupt: bool = False
