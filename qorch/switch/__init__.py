"""One class per QEMU switch, with QEMU's names; none of them can fail to render.

Front end (`Device…`) and back end (`Blockdev…`, `Netdev…`, `Chardev…`, `Object…`) are two classes.
Those that QEMU takes as JSON have `properties()`, the same for the command line and for QMP's
`device_add`, `blockdev-add`, `netdev_add` and `object-add`.
"""

from __future__ import annotations

from typing import Protocol


class Switch(Protocol):
    """Whatever renders itself as words of QEMU's command line."""

    def args(self) -> tuple[str, ...]:
        """The words."""
        ...
