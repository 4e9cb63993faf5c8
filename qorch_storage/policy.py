"""When and by how much a full volume or thin pool is made larger. Pure."""

from __future__ import annotations

import attrs

from qorch_storage.errors import StorageError


@attrs.frozen(kw_only=True)
class ExtendPolicy:
    """Make more room: at least `step` bytes at a time, never beyond `limit` bytes in all.

    Raises StorageError for figures that could never do anything.
    """

    step: int
    limit: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.step <= 0:
            raise StorageError(f"extending by {self.step} bytes is nothing", "give more")
        if self.limit is not None and self.limit <= 0:
            raise StorageError(f"a limit of {self.limit} bytes is nothing", "give more")


def decide_extension(
    policy: ExtendPolicy, size: int, missing: int, free: int, unit: int = 1
) -> int:
    """Return by how many bytes something of `size` bytes grows so that `missing` more fit.

    `free` is what there is to grow into, in whole units. 0 means that the policy or the room does
    not allow it.
    """
    most = free if policy.limit is None else min(free, policy.limit - size)
    most -= most % unit
    needed = max(missing, 1)
    if most < needed:
        return 0
    steps = -(-needed // policy.step)
    return min(-(-steps * policy.step // unit) * unit, most)
