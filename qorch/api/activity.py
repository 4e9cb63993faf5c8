"""Whether anybody wants something of the supervisor."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.define(eq=False)
class Activity:
    """Counts what is going on: requests, open streams, verbs whose client has left."""

    in_flight: int = attrs.field(default=0, init=False)
    _last: float = attrs.field(default=-math.inf, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count the body as something going on."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    async def wait_quiet(self, seconds: float) -> None:
        """Return once nothing has been going on for so long; the time starts with this call."""
        start = trio.current_time()
        while True:
            quiet_since = math.inf if self.in_flight else max(start, self._last)
            with trio.move_on_at(quiet_since + seconds):
                await self._changed.wait()
                continue
            return

    def _change(self, by: int) -> None:
        self.in_flight += by
        self._last = trio.current_time()
        self._changed.set()
        self._changed = trio.Event()
