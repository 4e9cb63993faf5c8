"""The networks' packet filter rules, put back when somebody else removes or changes them."""

from __future__ import annotations

import trio

from qorch.supervisor.networks import Networks
from qorch_net.errors import NetError
from qorch_net.watch import find_changes, open_watch

_RETRY_DELAY = 1.0  # seconds before a repair that failed is tried again


async def watch_rules(
    networks: Networks, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Compare at each change of our tables, and repair what differs, as long as we live."""
    try:
        with open_watch() as watch:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(watch)
                if find_changes(watch, networks.state.owner):
                    await _repair(networks)
    except OSError:  # a kernel without nf_tables has nothing to repair
        task_status.started()


async def _repair(networks: Networks) -> None:
    while True:
        try:
            await networks.repair_rules()
        except NetError as error:
            networks.tell_broken(error)
            await trio.sleep(_RETRY_DELAY)
        else:
            return
