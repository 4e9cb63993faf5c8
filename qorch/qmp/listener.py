"""One listener's own channel of events, bounded in bytes, honest about what it missed."""

from __future__ import annotations

import math

import attrs
import trio

from qorch.qmp.errors import EventsLostError, MonitorLostError
from qorch.qmp.session import Event

# Some 1,500 events of the usual size, a few MiB as Python objects.
MAX_HELD = 256 << 10


def _make_channel() -> tuple[trio.MemorySendChannel[Event], trio.MemoryReceiveChannel[Event]]:
    return trio.open_memory_channel[Event](math.inf)


@attrs.define(eq=False)
class Listener:
    """Events in the order they came: `async for event in listener`, or `await anext(listener)`.

    A listener that does not read holds 256 KiB of events (as they came over the wire) and counts
    what comes after. Reading then gives what it holds, raises EventsLostError once at the gap,
    and goes on behind it. Neither the monitor nor other listeners wait for it. One task reads.

    When the monitor is lost, what is held can still be read; then MonitorLostError is raised.
    """

    names: frozenset[str]  # empty: all
    _channel: tuple[trio.MemorySendChannel[Event], trio.MemoryReceiveChannel[Event]] = attrs.field(
        factory=_make_channel, init=False
    )
    _held: int = attrs.field(default=0, init=False)
    _missed: int = attrs.field(default=0, init=False)
    _loss: MonitorLostError | None = attrs.field(default=None, init=False)

    def offer_nowait(self, event: Event) -> None:
        """Hold the event if it is wanted; count it if there is no room (for the monitor)."""
        if self.names and event.name not in self.names:
            return
        if self._missed or self._held >= MAX_HELD:
            self._missed += 1
            return
        self._held += len(event.line)
        self._channel[0].send_nowait(event)

    def end(self, loss: MonitorLostError) -> None:
        """Let readers know that nothing more comes (for the monitor)."""
        self._loss = loss
        self._channel[0].close()

    def close(self) -> None:
        """Drop what is held."""
        for side in self._channel:
            side.close()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Event:
        if self._missed and not self._held:
            missed, self._missed = self._missed, 0
            raise EventsLostError(f"{missed} events came too fast and were lost", count=missed)
        try:
            event = await self._next()
        except trio.EndOfChannel:
            if self._loss is None:
                raise
            raise attrs.evolve(self._loss) from self._loss.__cause__
        self._held -= len(event.line)
        return event

    def take_nowait(self) -> Event | None:
        """The next event that is held, if there is one."""
        try:
            event = self._channel[1].receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return None
        self._held -= len(event.line)
        return event

    async def _next(self) -> Event:
        # Not one event per turn of the scheduler: the monitor reads hundreds in one. One who is
        # being cancelled must not find that the listener has been closed meanwhile.
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return self._channel[1].receive_nowait()
        except trio.WouldBlock:
            return await self._channel[1].receive()
