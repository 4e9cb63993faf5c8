"""Events for any number of listeners, each with a channel of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs
import trio

_BACKLOG = 1000  # events for a listener that does not read


@attrs.define(eq=False)
class _Listener:
    machine: str | None
    send: trio.MemorySendChannel[dict[str, object]]
    lost: int = 0

    def offer_nowait(self, event: dict[str, object]) -> None:
        """Hand over an event; a listener that is too slow is told how many it missed."""
        try:
            if self.lost:
                self.send.send_nowait({"event": "EVENTS_LOST", "count": self.lost})
                self.lost = 0
            self.send.send_nowait(event)
        except (trio.WouldBlock, trio.BrokenResourceError):  # who has closed their end reads none
            self.lost += 1


@attrs.define(eq=False)
class Events:
    """What happened, as dictionaries: `{time, machine, event, …}`."""

    _listeners: set[_Listener] = attrs.field(factory=set)

    def emit_nowait(self, machine: str, event: str, data: Mapping[str, object]) -> None:
        """Tell everyone who listens to this machine."""
        item = {"time": time.time(), "machine": machine, "event": event, **data}
        for listener in self._listeners:
            if listener.machine in (None, machine):
                listener.offer_nowait(item)

    @contextmanager
    def listen(
        self, machine: str | None = None
    ) -> Iterator[trio.MemoryReceiveChannel[dict[str, object]]]:
        """Listen to one machine, or to all."""
        send, receive = trio.open_memory_channel[dict[str, object]](_BACKLOG)
        listener = _Listener(machine, send)
        self._listeners.add(listener)
        try:
            yield receive
        finally:
            self._listeners.discard(listener)
            send.close()
            receive.close()
