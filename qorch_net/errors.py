"""What can go wrong with the host's network, in the user's words."""

from __future__ import annotations

import errno

import attrs

_HINTS = {
    errno.ENOSPC: "free some space there",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}


@attrs.define(eq=False)
class NetError(Exception):
    """The root of qorch_net's errors: what is wrong, and what to do about it."""

    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return self.message

    @classmethod
    def from_os_error(cls, error: OSError) -> NetError:
        """Say what the kernel refused: `/run/qorch/network: No space left on device`."""
        about = f"{error.filename}: " if error.filename else ""
        hint = _HINTS.get(error.errno or 0, "see space and rights there" if about else None)
        return cls(f"{about}{error.strerror or error}", hint)
