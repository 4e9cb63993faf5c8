"""Guests that are paused because the host has no room for what they write.

QEMU pauses a guest whose write found no space (`werror` is `enospc` unless it is said otherwise),
and repeats the write when the guest goes on. What is lacking is found out and told, as an event and
in `show`. Where the disk's pool says that it may be extended, it is, and the guest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs
import trio

from qorch.block.graph import Graph, Node, find_disk_id
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
        except (QorchError, StorageError, OSError) as error:
            self._events.emit_nowait(name, "SPACE_UNKNOWN", {"reason": str(error)})

    async def _tell(self, name: Name, disks: Iterable[str | None], graph: Graph) -> None:
        """Tell of each disk what it lacks, then make room; the guest goes on once all have some."""
        extended: dict[tuple[str, str], bool] = {}
        for disk in disks:
            node = graph.top_node(disk) if disk else None
            if disk is None or node is None:
                continue
            try:
                await self._treat(name, disk, node, extended)
            except (StorageError, OSError) as error:  # the others are told of all the same
                extended[disk, ""] = False
                event = {"disk": disk, "reason": str(error)}
                self._events.emit_nowait(name, "SPACE_UNKNOWN", event)
        machine = self._machines.get(name)
        if extended and all(extended.values()) and machine is not None:
            self._events.emit_nowait(name, "SPACE_EXTENDED", {})
            await machine.monitor.execute("cont")

    async def _treat(
        self, name: Name, disk: str, node: Node, extended: dict[tuple[str, str], bool]
    ) -> None:
        """One disk. What grows for several of them, a thin pool, does so once."""
        plans = [
            plan for plan in self._find_pools().values() if plan.path == node.image.path.parent
        ]
        place = await trio.to_thread.run_sync(_find_place, node.image, plans)
        lack = Lack(
            disk=disk,
            volume=node.image.path.name,
            pool=place.pool.name if place.pool else None,
            missing=max(0, node.size - place.taken - place.free),
        )
        known = self._lacks.setdefault(name, {})
        if known.get(disk) != lack:
            known[disk] = lack
            self._events.emit_nowait(name, "NO_SPACE", attrs.asdict(lack))
        if place.growing not in extended:
            extended[place.growing] = False
            extended[place.growing] = await trio.to_thread.run_sync(_extend, node.image, place.pool)


@attrs.frozen(kw_only=True)
class _Place:
    """Where an image lies: its pool, the bytes that it has there, and those that it may take."""

    pool: PoolPlan | None
    taken: int
    free: int
    growing: tuple[str, str]


def _find_place(image: Backing, plans: Iterable[PoolPlan]) -> _Place:
    """Look for an image in pools that share a directory, as all of a volume group do."""
    volume = image.path.name
    for plan in plans:
        if plan.type is PoolType.DIR:
            return _find_file(image, plan)
        pool = make_pool(plan)
        for found in pool.find_volumes():
            if found.path == image.path and found.image is not None:
                thin = plan.type is PoolType.LVM_THIN
                return _Place(
                    pool=plan,
                    taken=found.image.allocation,
                    free=pool.find_space().free if thin else 0,  # an LV has no more than it is
                    growing=(plan.name, "" if thin else volume),
                )
    return _find_file(image, None)


def _find_file(image: Backing, plan: PoolPlan | None) -> _Place:
    info = find_image(image.path, image.format)
    return _Place(
        pool=plan,
        taken=info.allocation if info else 0,
        free=find_free(image.path),
        growing=(plan.name if plan else "", image.path.name),
    )


def _extend(image: Backing, plan: PoolPlan | None) -> bool:
    """Give a thin pool, or an LV, another step of room if its policy allows; whether it has it."""
    if plan is None or plan.extend is None:
        return False
    return make_pool(plan).extend(image.path.name, plan.extend) > 0
