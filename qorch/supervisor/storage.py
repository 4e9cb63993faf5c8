"""Pools and volumes: what is defined, what is there, and the verbs that change it.

qorch_storage works synchronously; each of its calls runs in a thread. Verbs on one volume take
turns, verbs on several go on side by side.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from qorch.paths import StateDir
from qorch.plan import Defined, DiskPlan, Plan
from qorch.plan.storage import name_volumes
from qorch.progress import Progress, Report, ignore
from qorch.spec import DEFAULT_POOL, Spec
from qorch.state import VERSION, PoolDefinition, Store
from qorch.supervisor.block.records import Records
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.storage_streams import (
    Download,
    Upload,
    in_thread,
    open_in_thread,
    tell_percent,
)
from qorch.supervisor.storage_users import Users
from qorch.supervisor.storage_views import make_node, make_pool_row, make_volume_row
from qorch.supervisor.tasks import from_thread
from qorch.units import Name
from qorch_storage.copies import (
    Copy,
    Mode,
    clone_volume,
    export_volume,
    import_image,
    open_export,
    open_import,
)
from qorch_storage.errors import StorageError
from qorch_storage.info import Volume
from qorch_storage.locks import find_holders
from qorch_storage.plan import ImageFormat, PoolPlan, VolumePlan
from qorch_storage.pools import Pools
from qorch_storage.qemu_img import Check, Source
from qorch_storage.tree import make_tree
from qorch_storage.volumes import (
    check_volume,
    create_volume,
    remove_volume,
    rename_volume,
    resize_volume,
    wipe_volume,
)

T = TypeVar("T")


@attrs.define(eq=False)
class Storage:
    """The pools of one state directory and all that lies in them."""

    state: StateDir
    _store: Store
    _definitions: Definitions
    _pools: dict[Name, PoolPlan] = attrs.field(factory=dict, init=False)
    _locks: dict[tuple[str, str], trio.Lock] = attrs.field(factory=dict, init=False)

    @property
    def _users(self) -> Users:
        return Users(self._definitions, Records(self.state))

    # -- looking -------------------------------------------------------------------------------

    @property
    def plans(self) -> Mapping[Name, PoolPlan]:
        """The pools that are defined, and the built-in one."""
        default = PoolPlan(name=DEFAULT_POOL, path=self.state.default_pool, owner=self.state.owner)
        return {DEFAULT_POOL: default, **self._pools}

    @property
    def pools(self) -> Pools:
        """The pools to work with."""
        return Pools.from_plans(self.plans.values(), self._users.of_paths())

    async def find_pools(self) -> list[dict[str, object]]:
        """The rows of `qorch pool ls`, by name."""
        pools = self.pools
        return [
            await in_thread(make_pool_row, plan, pools[name])
            for name, plan in sorted(self.plans.items())
        ]

    async def show_pool(self, name: str) -> dict[str, object]:
        """One pool, with the machines that have disks in it. Raises MissingError."""
        pool = self.pools[name]
        row = await in_thread(make_pool_row, self.plans[Name(name)], pool)
        return {**row, "machines": sorted(self._users.of_pool(name))}

    async def find_volumes(self, pool: str | None = None) -> list[dict[str, object]]:
        """The rows of `qorch volume ls`. A pool that cannot be listed is one row with a problem."""
        pools = self.pools
        names = sorted(self.plans) if pool is None else [pool]
        users = self._users.of_paths()
        rows: list[dict[str, object]] = []
        for name in names:
            try:
                volumes = await in_thread(pools[name].find_volumes)
            except StorageError as error:
                if pool is not None:
                    raise
                rows.append({"pool": name, "name": "", "problem": error.message})
                continue
            rows += [make_volume_row(volume, users.get(volume.path, ())) for volume in volumes]
        return rows

    async def show_volume(self, pool: str, name: str) -> dict[str, object]:
        """One volume: what it builds on, what builds on it, who has it open."""
        pools, users = self.pools, self._users.of_paths()

        def show() -> dict[str, object]:
            found = pools.find_volume(pool, name)
            listed = {volume.name: volume for volume in pools[pool].find_volumes()}
            volume = listed.get(found.name, found)
            dependents = pools.find_dependents(volume.path)
            try:
                chain = [str(image.path) for image in pools.find_chain(volume)]
            except StorageError as error:
                chain, volume = [], attrs.evolve(volume, problem=volume.problem or error.message)
            return {
                **make_volume_row(volume, users.get(volume.path, ())),
                "chain": chain,
                "dependents": [f"{other.pool}/{other.name}" for other in dependents],
                "holders": [attrs.asdict(holder) for holder in find_holders(volume.path)],
            }

        return await in_thread(show)

    async def find_tree(self) -> list[dict[str, object]]:
        """What builds on what, over all pools: `{path, pool, name, children}` each."""
        volumes = await in_thread(self.pools.find_volumes)
        return [make_node(node) for node in make_tree(volumes)]

    # -- verbs ---------------------------------------------------------------------------------

    async def create(self, plan: VolumePlan, *, report: Report = ignore) -> None:
        """Make a volume."""
        await self._act(plan.pool, plan.name, report, create_volume, self.pools, plan)

    async def resize(
        self, pool: str, name: str, *, size: int, force: bool = False, report: Report = ignore
    ) -> None:
        """Make a volume larger or, with `force`, smaller."""
        await self._change(pool, name, report, resize_volume, size, force=force)

    async def copy(
        self,
        pool: str,
        name: str,
        copy: Copy,
        *,
        mode: Mode = Mode.FULL,
        passphrase_file: Path | None = None,
        report: Report = ignore,
    ) -> None:
        """Clone a volume, or convert it into another format or pool."""
        await self._change(
            pool,
            name,
            report,
            clone_volume,
            copy,
            mode=mode,
            passphrase_file=passphrase_file,
            on_percent=tell_percent(name, report),
        )

    async def import_file(self, source: Source, copy: Copy, *, report: Report = ignore) -> None:
        """Make a volume of an image on this host."""
        on_percent = tell_percent(copy.name, report)
        await self._act(
            copy.pool, copy.name, report, import_image, self.pools, source, copy,
            on_percent=on_percent,
        )  # fmt: skip

    async def export_file(
        self,
        pool: str,
        name: str,
        *,
        path: Path,
        image_format: ImageFormat,
        compress: bool = False,
        passphrase_file: Path | None = None,
        report: Report = ignore,
    ) -> None:
        """Write a volume to a file on this host."""
        await self._change(
            pool,
            name,
            report,
            export_volume,
            path,
            image_format,
            compress=compress,
            passphrase_file=passphrase_file,
            on_percent=tell_percent(name, report),
        )

    async def check(
        self,
        pool: str,
        name: str,
        *,
        repair: str | None = None,
        passphrase_file: Path | None = None,
    ) -> Check:
        """Check a volume's own records, and repair them if asked to."""
        pools = self.pools

        def act() -> Check:
            volume = pools.find_volume(pool, name)
            if repair is not None:
                pools.check_changeable(volume)
            return check_volume(volume, repair=repair, passphrase_file=passphrase_file)

        async with self._lock(pool, name):
            return await in_thread(act)

    async def rename(self, pool: str, name: str, *, new: str, report: Report = ignore) -> None:
        """Give a volume another name; refused if a machine has it as a disk."""
        await self._change(pool, name, report, rename_volume, new, unused=True)

    async def wipe(self, pool: str, name: str, *, report: Report = ignore) -> None:
        """Overwrite and remove a volume; refused if a machine has it as a disk."""
        await self._change(pool, name, report, wipe_volume, unused=True)

    async def remove(self, pool: str, name: str, *, report: Report = ignore) -> None:
        """Remove a volume; refused if a machine has it as a disk."""
        await self._change(pool, name, report, remove_volume, unused=True)

    def find_format(self, pool: str) -> ImageFormat:
        """The format that volumes of a pool have unless it is said. Raises MissingError."""
        return self.pools[pool].default_format

    @asynccontextmanager
    async def open_download(
        self, pool: str, name: str, image_format: ImageFormat, *, compress: bool = False
    ) -> AsyncIterator[Download]:
        """A volume's export, to be read; it is gone when the block ends."""
        pools, directory = self.pools, self.state.default_pool.parent
        volume = await in_thread(pools.find_volume, pool, name)
        opened = open_export(pools, volume, directory, image_format, compress=compress)
        async with open_in_thread(opened) as fd:
            size = os.lseek(fd, 0, os.SEEK_END)
            os.lseek(fd, 0, os.SEEK_SET)
            yield Download(fd, size)

    @asynccontextmanager
    async def open_upload(self) -> AsyncIterator[Upload]:
        """A place for an image that comes in pieces; it is gone when the block ends."""
        async with open_in_thread(open_import(self.state.default_pool.parent)) as new:
            yield Upload(self.import_file, new)

    # -- documents -----------------------------------------------------------------------------

    def define(self, spec: Spec, plan: Plan, undo: AsyncExitStack) -> None:
        """Store the pools of a document; undone, they are as they were."""
        for name in spec.pools:
            new = plan.pools[name]
            old = self._pools.get(name)
            if new != old:
                undo.callback(self._put, name, old)
                self._put(name, new)

    def forget(self, names: Iterable[Name], report: Report) -> None:
        """Forget the pools of a document that no machine has disks in. What lies there stays."""
        for name in names:
            users = self._users.of_pool(name)
            if users:
                message = f"stays: {', '.join(users)} has disks in it"
                report(Progress("pool", name, message=message))
            elif name in self._pools:
                self._put(name, None)

    def add_to(self, defined: Defined) -> Defined:
        """What is defined, with the pools."""
        return attrs.evolve(defined, pools=dict(self._pools))

    async def remove_disks(self, disks: Iterable[DiskPlan], report: Report) -> None:
        """Remove the volumes made for a machine. Raises StorageError if others build on one."""
        for disk in disks:
            if disk.pool is not None and disk.volume is not None:
                await self._remove(disk.pool, disk.volume.name, disk.volume.format, report)

    async def remove_volumes(self, spec: Spec, report: Report) -> None:
        """Remove a document's own volumes, but for those that a machine has as a disk."""
        users = self._users.of_paths()
        for pool, name, image_format in name_volumes(spec, self.state, self._pools):
            machines = users.get(pool.volume_path(name, image_format))
            if machines:
                message = f"stays: it is a disk of {', '.join(machines)}"
                report(Progress("volume", name, message=message))
            else:
                await self._remove(pool, name, image_format, report)

    async def adopt(self, report: Report) -> None:
        """After a start: end what was killed in the middle."""
        self._pools |= {name: item.plan for name, item in self._store.read_pools().items()}
        pools = self.pools
        for name in self.plans:
            try:
                stale = await in_thread(pools[name].remove_stale)
            except StorageError as error:
                report(Progress("pool", name, message=error.message))
            else:
                for path in stale:
                    report(
                        Progress("pool", name, message=f"removed {path}, which was not finished")
                    )

    # -- how -----------------------------------------------------------------------------------

    def _put(self, name: Name, plan: PoolPlan | None) -> None:
        if plan is None:
            self._pools.pop(name, None)
            self._store.remove_pool(name)
        else:
            self._store.write_pool(PoolDefinition(version=VERSION, plan=plan))
            self._pools[name] = plan

    async def _remove(
        self, pool: PoolPlan, name: str, image_format: ImageFormat, report: Report
    ) -> None:
        pools = Pools.from_plans({**self.plans, Name(pool.name): pool}.values())
        tell = from_thread("volume", name, report)
        await in_thread(_remove_planned, pools, pool, name, image_format, tell)

    def _lock(self, pool: str, name: str) -> trio.Lock:
        return self._locks.setdefault((pool, name), trio.Lock())

    async def _act(
        self,
        pool: str,
        name: str,
        report: Report,
        verb: Callable[..., object],
        *args: object,
        **options: object,
    ) -> None:
        tell = from_thread("volume", name, report)
        async with self._lock(pool, name):
            await in_thread(verb, *args, **options, report=tell)

    async def _change(
        self,
        pool: str,
        name: str,
        report: Report,
        verb: Callable[..., object],
        *args: object,
        unused: bool = False,
        **options: object,
    ) -> None:
        """Run a verb on a volume that must be there."""
        pools, users = self.pools, self._users.of_paths()

        def act(*, report: Callable[[str], None]) -> None:
            volume = pools.find_volume(pool, name)
            if unused and (machines := users.get(volume.path)):
                raise StorageError(
                    f"volume {pool}/{volume.name} is a disk of {', '.join(machines)}",
                    f"remove the machine first: qorch rm {machines[0]}",
                )
            verb(pools, volume, *args, **options, report=report)

        await self._act(pool, name, report, act)


def _remove_planned(
    pools: Pools,
    pool: PoolPlan,
    name: str,
    image_format: ImageFormat,
    report: Callable[[str], None],
) -> None:
    """Remove a volume that a document asked for, unless others build on it: that is an error."""
    path = pool.volume_path(name, image_format)
    volume = Volume(name=path.name, path=path, format=image_format, image=None, pool=pool.name)
    if path.exists():
        pools.check_changeable(volume)
    pools[pool.name].remove_volume(name, image_format, report=report)
