"""Nurseries that a context manager hides: errors come out of them as themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises the first real error of its block or its tasks, not a group of them.

    Further errors of the same nursery are dropped: they came after, and of the first one's
    cancellation.
    """
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        error = _first(group)
    if error is not None:  # raised out here, or the group would become its context
        raise error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
        if not isinstance(error, trio.Cancelled):
            return error
    return group.exceptions[0]
