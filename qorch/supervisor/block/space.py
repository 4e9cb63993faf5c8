"""Guests that are paused because the host has no room for what they write.

QEMU pauses a guest whose write found no space (`werror` is `enospc` unless it is said otherwise),
and repeats the write when the guest goes on. What is lacking is found out and told, as an event and
in `show`. Where the disk's pool says that it may be extended, it is, and the guest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs
import trio

from qorch.block.graph import Graph, find_disk_id
from qorch.block.run import find_graph
from qorch.errors import QorchError
from qorch.supervisor.block.images import find_free
from qorch.supervisor.events import Events
from qorch.supervisor.machines import Machines
from qorch.units import Name
from qorch_storage.errors import StorageError
from qorch_storage.image import find_image
from qorch_storage.plan import Backing, PoolPlan, PoolType
from qorch_storage.pool import make_pool

_OVER = {"RESUME", "STOPPED", "CRASHED"}


@attrs.frozen(kw_only=True)
class Lack:
    """A disk whose image could not grow; `missing` is what it may still take, less what is free."""

    disk: str
    volume: str
    pool: str | None
    missing: int


@attrs.define(eq=False)
class Space:
    """Who lacks space."""

    _machines: Machines
    _events: Events
    _find_pools: Callable[[], Mapping[Name, PoolPlan]]
    _lacks: dict[str, dict[str, Lack]] = attrs.field(factory=dict, init=False)

    def find(self, name: str) -> list[dict[str, object]]:
        """What a machine lacks, as `show` has it."""
        return [attrs.asdict(lack) for lack in self._lacks.get(name, {}).values()]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch all machines; what was lacking before is found by `look`."""
        with self._events.listen() as events:
            task_status.started()
            async for event in events:
                name = str(event.get("machine", ""))
                if event["event"] in _OVER:
                    self._lacks.pop(name, None)
                elif event["event"] == "BLOCK_IO_ERROR" and event.get("nospace"):
                    await self.look(Name(name))

    async def look(self, name: Name) -> None:
        """Find out which disks of a machine lack space, tell, and extend what may be extended."""
        machine = self._machines.get(name)
        if machine is None:
            return
        try:
            blocks = await machine.monitor.execute("query-block")
            short = [block for block in blocks if block.get("io-status") == "nospace"]
            if short:
                graph = await find_graph(machine.monitor)
                await self._tell(name, [find_disk_id(block["qdev"]) for block in short], graph)
        except (QorchError, StorageError) as error:
            self._events.emit_nowait(name, "SPACE_UNKNOWN", {"reason": str(error)})

    async def _tell(self, name: Name, disks: Iterable[str | None], graph: Graph) -> None:
        extended = []
        for disk in disks:
            node = graph.top_node(disk) if disk else None
            if disk is None or node is None:
                continue
            pool = self._find_pool(node.image.path)
            args = (disk, node.image, node.size, pool)
            lack = await trio.to_thread.run_sync(_measure, *args)
            known = self._lacks.setdefault(name, {})
            if known.get(disk) != lack:
                known[disk] = lack
                self._events.emit_nowait(name, "NO_SPACE", attrs.asdict(lack))
            extended.append(await trio.to_thread.run_sync(_extend, node.image, pool))
        machine = self._machines.get(name)
        if extended and all(extended) and machine is not None:
            self._events.emit_nowait(name, "SPACE_EXTENDED", {})
            await machine.monitor.execute("cont")

    def _find_pool(self, path: Path) -> PoolPlan | None:
        plans = self._find_pools().values()
        return next((plan for plan in plans if plan.path == path.parent), None)


def _measure(disk: str, image: Backing, size: int, pool: PoolPlan | None) -> Lack:
    info = find_image(image.path, image.format)
    taken = info.allocation if info else 0
    if pool is not None and pool.type is not PoolType.DIR:
        free = make_pool(pool).find_space().free
    else:
        free = find_free(image.path)
    return Lack(
        disk=disk,
        volume=image.path.name,
        pool=pool.name if pool else None,
        missing=max(0, size - taken - free),
    )


def _extend(image: Backing, plan: PoolPlan | None) -> bool:
    """Give a pool, or an LV, another step of room if its policy allows; whether that was done."""
    if plan is None or plan.extend is None:
        return False
    pool = make_pool(plan)
    limit = plan.extend.limit
    if limit is not None and pool.find_space().capacity + plan.extend.step > limit:
        return False
    pool.extend(image.path.name if plan.type is PoolType.LVM else None, plan.extend.step)
    return True
