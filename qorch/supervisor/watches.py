"""The networks' rules and interfaces, put back when somebody else removes or changes them."""

from __future__ import annotations

import math
import socket
from contextlib import ExitStack

import trio

from qorch.supervisor.networks import Networks
from qorch.units import Name
from qorch_net.errors import NetError
from qorch_net.watch import find_changes, find_link_changes, open_link_watch, open_watch

_SHORT_DELAY = 0.1  # seconds before a repair that failed is tried for the second time
_RETRY_DELAY = 1.0  # seconds before it is tried again after that
_MAX_DELAY = 30.0  # it doubles: an uplink may stay away


async def watch_rules(
    networks: Networks, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Compare at each change of our tables, and repair what differs, as long as we live."""
    with ExitStack() as stack:
        try:
            watch: socket.socket | None = stack.enter_context(open_watch())
        except OSError:  # a kernel without nf_tables has nothing to repair
            watch = None
        task_status.started()
        while watch is not None:
            await trio.lowlevel.wait_readable(watch)
            if find_changes(watch, networks.state.owner):
                await _repair(networks)


async def watch_links(
    networks: Networks, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Repair the networks whose interfaces or addresses somebody took away, as long as we live."""
    broken = set[Name]()
    delay, retry = _RETRY_DELAY, math.inf
    with open_link_watch() as watch:
        task_status.started()
        while True:
            with trio.move_on_at(retry):
                await trio.lowlevel.wait_readable(watch)
            stricken = networks.find_stricken(find_link_changes(watch))
            if not stricken and trio.current_time() < retry:
                continue
            broken = await networks.repair_links(stricken | broken, known=broken)
            delay = _RETRY_DELAY if stricken else min(2 * delay, _MAX_DELAY)
            retry = trio.current_time() + delay if broken else math.inf


async def _repair(networks: Networks) -> None:
    """Try until it succeeds; the first time may have come in the middle of somebody's change."""
    delay = _SHORT_DELAY
    while True:
        try:
            await networks.repair_rules()
        except NetError as error:
            if delay > _SHORT_DELAY:
                networks.tell_broken(error)
            await trio.sleep(delay)
            delay = _RETRY_DELAY
        else:
            return
