"""One operation on one machine's images: what it sees, and the few ways in which it changes things.

Whoever has a `Work` holds the machine's lock: it is not started, changed or removed by others. It
may be stopped, and it may die. Everything that is said to QEMU then raises, the operation ends, and
its journal says how to go on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from qorch.block.commands import Command, delete_node, flush, reopen, resize
from qorch.block.graph import Graph, Node
from qorch.block.jobs import Job
from qorch.block.nodes import keep_file, make_node
from qorch.block.record import Journal, Record, Step, Volume
from qorch.block.run import execute, find_graph, find_jobs
from qorch.errors import MachineError, NotFoundError
from qorch.machine import Machine
from qorch.option import Properties
from qorch.plan import DiskPlan, MachinePlan, choose_cache, keep_disk, keep_variables
from qorch.plan.firmware import VARIABLES
from qorch.progress import Progress, Report
from qorch.qmp import CommandError, Monitor
from qorch.spec import DEFAULT_POOL, Cache
from qorch.supervisor.block.images import is_device, read_chain, read_size
from qorch.supervisor.block.records import Records
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.machines import Machines
from qorch.supervisor.tasks import from_thread
from qorch.units import Name
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, PoolType
from qorch_storage.pool import make_pool

T = TypeVar("T")


@attrs.define(eq=False)
class Work:
    """A machine whose images are worked on."""

    name: Name
    report: Report
    machines: Machines
    definitions: Definitions
    records: Records
    pools: Mapping[Name, PoolPlan]
    record: Record = attrs.field(init=False)
    _percent: dict[str, int] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.record = self.records.read(self.name)

    # -- what is there -------------------------------------------------------------------------

    @property
    def machine(self) -> Machine | None:
        """The machine, if it runs."""
        return self.machines.get(self.name)

    @property
    def monitor(self) -> Monitor:
        """Its QMP. Raises MachineError if it does not run."""
        return self.machines.find(self.name).monitor

    @property
    def plan(self) -> MachinePlan:
        """What runs; else what would."""
        return self.machines.plan_of(self.name)

    @property
    def disks(self) -> tuple[DiskPlan, ...]:
        """The disks that the guest can write to, and its UEFI variables, which are one, too."""
        disks = (disk for disk in self.plan.disks if not disk.read_only and disk.chain)
        return (*disks, *self._variables)

    @property
    def _variables(self) -> tuple[DiskPlan, ...]:
        store = self.plan.firmware.store
        return (DiskPlan(id=VARIABLES, chain=store),) if store else ()

    def find_images(self, id_: str) -> DiskPlan:
        """A disk, or the UEFI variables, by its id. Raises NotFoundError."""
        return self._variables[0] if id_ == VARIABLES and self._variables else self.find_disk(id_)

    def find_disk(self, id_: str) -> DiskPlan:
        """A disk by its id. Raises NotFoundError."""
        for disk in self.plan.disks:
            if disk.id == id_:
                return disk
        known = ", ".join(disk.id for disk in self.plan.disks) or "none"
        raise NotFoundError(f"{self.name} has no disk {id_!r}", f"its disks: {known}")

    def origin_of(self, disk: DiskPlan) -> Path:
        """The image that a disk's description names."""
        known = self.record.images_of(disk.id)
        return known.origin if known else disk.path

    async def graph(self) -> Graph:
        """QEMU's block graph."""
        return await find_graph(self.monitor)

    async def jobs(self) -> dict[str, Job]:
        """QEMU's jobs."""
        return await find_jobs(self.monitor)

    # -- what is done --------------------------------------------------------------------------

    def step(self, what: str) -> None:
        """Tell what comes next, before it touches anything."""
        self.report(Progress("vm", self.name, what))

    def note(self, message: str) -> None:
        """Tell what a person should know."""
        self.report(Progress("vm", self.name, message=message))

    def progress(self, what: str) -> Callable[[Job], None]:
        """A function that tells how far a job has come, when that has changed."""

        def tell(job: Job) -> None:
            if self._percent.get(job.id) != job.percent:
                self._percent[job.id] = job.percent
                self.step(f"{what}: {job.percent} %")

        return tell

    async def in_thread(self, function: Callable[..., T], *args: object) -> T:
        """Do what blocks; not given up half-way."""
        return await trio.to_thread.run_sync(functools.partial(function, *args))

    def tell(self) -> Callable[[str], None]:
        """A function for threads to name their steps with."""
        return from_thread("vm", self.name, self.report)

    async def execute(self, command: Command) -> object:
        """Have QEMU do one command."""
        return await execute(self.monitor, command)

    async def try_execute(self, command: Command) -> bool:
        """The same for what may be done already; whether QEMU did it."""
        try:
            await self.execute(command)
        except CommandError:
            return False
        return True

    async def flush(self, node: str) -> None:
        """Have a node's image hold all that it reads, should QEMU die now. Raises MachineError.

        Jobs that stream, or commit below the top, change headers without that (block/stream.c,
        block/commit.c); those that mirror do it by themselves.
        """
        if words := str(await self.execute(flush(node))).strip():
            raise MachineError(f"{node} cannot be flushed: {words}")

    def save(self, journal: Journal, step: Step | None = None) -> Journal:
        """Write down what is being done and how far it has come."""
        new = journal.at(step) if step else journal
        self.step(f"{new.verb}: note {new.step}")
        self.records.write_journal(self.name, new)
        return new

    async def add_node(
        self, disk: str, image: Backing, graph: Graph, *, size: int | None = None
    ) -> str:
        """Open an image in QEMU, with nothing below it; return its node's name.

        `size` is how much of a raw image is used.
        """
        name = graph.free_name(disk)
        self.step(f"open {image.path.name}")
        await self.execute(Command("blockdev-add", await self._node(name, disk, image, size)))
        return name

    async def use_whole(self, disk: str, image: Backing, graph: Graph) -> None:
        """Use all of a raw image of which part was; the guest is told how large it is."""
        name = graph.nodes[image.path].name
        self.step(f"use all of {image.path.name}")
        await self.execute(reopen(keep_file(await self._node(name, disk, image))))
        await self.execute(resize(name, await self.in_thread(read_size, image)))

    async def _node(
        self, name: str, disk: str, image: Backing, size: int | None = None
    ) -> Properties:
        device = await self.in_thread(is_device, image.path)
        cache = choose_cache(self.find_images(disk).spec, device=device)
        direct = cache in {Cache.NONE, Cache.DIRECTSYNC}
        return make_node(name, image, device=device, direct=direct, size=size)

    async def close_nodes(self, paths: Iterable[Path]) -> None:
        """Close images that QEMU need not have open any more; what is in use stays open."""
        if self.machine is None:
            return
        graph = await self.graph()
        nodes = [graph.nodes[path] for path in paths if path in graph.nodes]
        for _ in nodes:  # one that another one builds on can be closed after that
            nodes = [node for node in nodes if not await self._close_node(node)]

    async def _close_node(self, node: Node) -> bool:
        self.step(f"close {node.image.path.name}")
        closed = await self.try_execute(delete_node(node.name))
        await self.try_execute(delete_node(f"{node.name}-file"))  # if it is one of its own
        return closed

    async def put(self, tops: Mapping[str, Backing], record: Record) -> None:
        """Store where disks' data is now, in the record, the definition and for who adopts."""
        for id_, top in tops.items():
            disk = self.find_images(id_)
            chain = await self.in_thread(read_chain, top)
            record = record.with_chain(id_, self.origin_of(disk), chain)
        self.step("write record")
        self.records.write(self.name, record)
        self.record = record
        self._change_plans(self.with_images)

    def change_running(self, change: Callable[[MachinePlan], MachinePlan]) -> None:
        """Store, for who adopts it, what a machine is while it runs; its definition stays."""
        if (machine := self.machine) is not None:
            machine.plan = change(machine.plan)
            self.machines.note_plan(machine)

    def _change_plans(self, change: Callable[[MachinePlan], MachinePlan]) -> None:
        self.step("write definition")
        definition = self.definitions[self.name]
        self.definitions.put(self.name, attrs.evolve(definition, plan=change(definition.plan)))
        if (saved := self.machines.read_saved(self.name)) is not None:
            self.machines.write_saved(self.name, attrs.evolve(saved, plan=change(saved.plan)))
        self.change_running(change)

    def with_images(self, plan: MachinePlan) -> MachinePlan:
        """A plan with its disks' data where the record says, whatever it said before."""
        known = {item.disk: item for item in self.record.disks}
        disks = tuple(
            keep_disk(disk, known[disk.id]) if disk.id in known else disk for disk in plan.disks
        )
        variables = known.get(VARIABLES) if plan.firmware.store else None
        with_disks = attrs.evolve(plan, disks=disks)
        return keep_variables(with_disks, variables) if variables else with_disks

    def next_volume(self, disk: DiskPlan) -> tuple[PoolPlan, str]:
        """A pool of files and a free name there for one more image of a disk."""
        in_pool = disk.pool is not None and disk.pool.type is PoolType.DIR
        pool = disk.pool if in_pool and disk.pool is not None else self.pools[DEFAULT_POOL]
        stem = self._stem(disk)
        number = 1
        while pool.volume_path(f"{stem}.{number}", ImageFormat.QCOW2).exists():
            number += 1
        return pool, f"{stem}.{number}"

    async def free_name(self, disk: str, pool: PoolPlan) -> str:
        """A free name in a pool of LVM for one more image of a disk."""
        stem = self._stem(self.find_images(disk))
        number = 1
        while await self.in_thread(make_pool(pool).find_volume, f"{stem}.{number}") is not None:
            number += 1
        return f"{stem}.{number}"

    def _stem(self, disk: DiskPlan) -> str:
        return disk.volume.name if disk.volume is not None else f"{self.name}-{disk.id}"

    def volumes_of(self, disk: DiskPlan) -> list[Volume]:
        """The volumes that were made for the machine, and for the disk at first."""
        own = []
        if disk.pool is not None and disk.volume is not None:
            own = [Volume(pool=disk.pool, volume=disk.volume)]
        return [*self.record.volumes, *own]

    def pools_of(self, disk: str) -> list[PoolPlan]:
        """The pools that a disk's images may lie in."""
        found = [volume.pool for volume in self.volumes_of(self.find_images(disk))]
        return [pool for number, pool in enumerate(found) if pool not in found[:number]]
