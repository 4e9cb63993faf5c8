"""What can be changed about a disk while its guest uses it: its size, its limits, its medium.

A size is the image's and stays. Limits and media are what the machine runs with, until it is
started anew: what it starts with is its description's. So they are noted in what runs alone, where
a plan sees how that differs from the description, and `up` changes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import trio

from qorch.argv.blockdev import find_group
from qorch.block.commands import Command, delete_node, resize, set_group_limits, set_limits
from qorch.block.graph import Disk
from qorch.block.nodes import make_node
from qorch.block.record import Journal, Medium, Verb
from qorch.errors import InputError, MachineError, Problem
from qorch.plan import DiskPlan, MachinePlan, find_group_name, find_live_changes, takes_media
from qorch.qmp import CommandError
from qorch.spec import ThrottleSpec
from qorch.supervisor.block.images import grow_image, is_device, read_size
from qorch.supervisor.block.snapshots import find_tops
from qorch.supervisor.block.work import Work
from qorch_storage.image import find_image
from qorch_storage.plan import Backing, check_volume_size

_EJECT_DEADLINE = 10.0  # seconds for a guest to let go of a medium


async def grow_disk(work: Work, disk: str, size: int) -> None:
    """Make a disk `size` bytes large; a guest that runs is told. Doing it again changes nothing.

    Raises InputError, MachineError, StorageError.
    """
    work.find_disk(disk)
    check_volume_size(size)
    top = (await find_tops(work)).get(disk)
    if top is None:
        raise MachineError(f"{work.name} cannot write to {disk}", "only such a disk can grow")
    now = await work.in_thread(read_size, top)
    if size < now:
        message = f"{disk} has {now} bytes: what runs can only grow"
        raise InputError.from_problems([Problem("size", message)])
    device = await work.in_thread(is_device, top.path)
    if device or work.machine is None:
        size = await work.in_thread(grow_image, top, work.pools_of(disk), size, work.tell())
    if work.machine is not None:
        node = (await work.graph()).nodes[top.path]
        work.step(f"resize {disk}")
        await work.execute(resize(node.name, size))


async def adapt(work: Work, wanted: MachinePlan) -> None:
    """Make what runs what is wanted, as far as media and limits alone do. Raises MachineError."""
    changes = find_live_changes(work.plan, wanted) if work.machine is not None else None
    for change in changes or ():
        if change.limits:
            await _limit(work, change.disk, change.disk.spec.throttle)
        if change.medium:
            image = change.disk.chain[0] if change.disk.chain else None
            await _change_medium(work, change.disk, image)
    if changes is not None and work.machine is not None:
        work.change_running(lambda _plan: wanted)


# -- limits ------------------------------------------------------------------------------------


async def limit_disk(work: Work, disk: str, limits: Mapping[str, int]) -> None:
    """Change what a running disk may do; limits that are not given are none.

    The names are those of `throttle` in vm.toml. Disks of one group are limited together. Raises
    MachineError.
    """
    plan = work.find_disk(disk)
    _require_running(work)
    group = find_group_name(plan)
    if group is not None:  # its limits are those of the first disk that gives any
        shared = (item for item in work.plan.disks if find_group_name(item) == group)
        plan = next(
            (item for item in shared if item.spec.throttle != ThrottleSpec(group=group)), plan
        )
    given = {name: number for name, number in limits.items() if number}
    throttle = ThrottleSpec(group=group, **given) if given or plan.spec.throttle else None
    await _limit(work, plan, throttle)

    def change(disk: DiskPlan) -> DiskPlan:
        return attrs.evolve(disk, spec=attrs.evolve(disk.spec, throttle=throttle))

    work.change_running(lambda running: _change_disk(running, plan.id, change))


async def _limit(work: Work, disk: DiskPlan, throttle: ThrottleSpec | None) -> None:
    fields = attrs.asdict(throttle or ThrottleSpec())
    limits = {name: value for name, value in fields.items() if isinstance(value, int)}
    group = find_group(disk, throttle or ThrottleSpec())
    device = (await work.graph()).find(disk.id).qdev
    work.step(f"limit {disk.id}")
    if not await work.try_execute(set_group_limits(group, limits)):
        try:
            await work.execute(set_limits(device, limits))
        except CommandError as error:
            raise MachineError(f"{disk.id} cannot be limited so: {error}") from error


# -- media -------------------------------------------------------------------------------------


async def change_medium(work: Work, disk: str, path: Path | None, *, force: bool = False) -> None:
    """Take the medium out of a running machine's drive and, with a path, put an image in.

    A guest that has locked the tray is asked to open it, and with `force` not asked. Raises
    InputError, MachineError.
    """
    plan = work.find_disk(disk)
    if not takes_media(plan):
        raise MachineError(f"{disk} is no drive", 'one has device = "cdrom" or bus = "floppy"')
    _require_running(work)
    image = await work.in_thread(_find_medium, path) if path is not None else None
    await _change_medium(work, plan, image, force=force)


async def _change_medium(
    work: Work, disk: DiskPlan, image: Backing | None, *, force: bool = False
) -> None:
    graph = await work.graph()
    drive = graph.find(disk.id)
    new = graph.free_name(disk.id) if image is not None else None
    medium = Medium(disk=disk.id, image=image, old=drive.node, new=new)
    work.save(Journal(verb=Verb.MEDIUM, medium=medium))
    await _open_node(work, medium)
    await _open_tray(work, drive, force=force)
    await _swap(work, medium, drive)


async def resume_medium(work: Work, medium: Medium) -> None:
    """Leave no drive half-way: nothing was done to it yet, or it is done now."""
    if work.machine is None:
        work.records.clear_journal(work.name)
        return
    drive = (await work.graph()).find(medium.disk)
    if drive.node == medium.old and not drive.tray_open:
        await _close_node(work, medium.new)
        work.records.clear_journal(work.name)
    else:
        await _open_node(work, medium)
        await _swap(work, medium, drive)


async def _open_node(work: Work, medium: Medium) -> None:
    image = medium.image
    if image is None or medium.new is None or medium.new in (await work.graph()).names:
        return
    device = await work.in_thread(is_device, image.path)
    read_only = work.find_disk(medium.disk).read_only
    node = make_node(medium.new, image, device=device, read_only=read_only)
    work.step(f"open {image.path.name}")
    await work.execute(Command("blockdev-add", node))


async def _open_tray(work: Work, drive: Disk, *, force: bool) -> None:
    """A drive without a tray, as of floppies, has it open always."""
    if drive.tray_open is None:
        return
    with work.monitor.listen("DEVICE_TRAY_MOVED") as events:
        work.step(f"open {drive.id}")
        await work.execute(Command("blockdev-open-tray", {"id": drive.qdev, "force": force}))
        with trio.move_on_after(_EJECT_DEADLINE):
            while not (await work.graph()).find(drive.id).tray_open:
                await anext(events)
            return
    message = f"the guest of {work.name} has locked the tray of {drive.id}"
    raise MachineError(message, "have it unmount what is in it, or --force")


async def _swap(work: Work, medium: Medium, drive: Disk) -> None:
    """Change what is in an open drive, and close it; may be done again."""
    work.step(f"change medium of {drive.id}")
    if drive.node != medium.new:
        await work.execute(Command("blockdev-remove-medium", {"id": drive.qdev}))
        if medium.new is not None:
            inserted = {"id": drive.qdev, "node-name": medium.new}
            await work.execute(Command("blockdev-insert-medium", inserted))
    if drive.tray_open is not None:
        await work.execute(Command("blockdev-close-tray", {"id": drive.qdev}))
    work.step(f"close {drive.id}")
    await _close_node(work, medium.old)
    chain = (medium.image,) if medium.image is not None else ()
    devices = await work.in_thread(lambda: tuple(i.path for i in chain if is_device(i.path)))

    def change(disk: DiskPlan) -> DiskPlan:
        path = chain[0].path if chain else None
        spec = attrs.evolve(disk.spec, path=path, format=None)
        return attrs.evolve(disk, spec=spec, chain=chain, block_devices=devices)

    work.change_running(lambda plan: _change_disk(plan, drive.id, change))
    work.records.clear_journal(work.name)


async def _close_node(work: Work, node: str | None) -> None:
    """Close what was in a drive, and the filters that its description put over it."""
    if node is None:
        return
    stem = node.removesuffix("-cor").removesuffix("-throttle")
    for name in (f"{stem}-cor", f"{stem}-throttle", stem, f"{stem}-file"):
        await work.try_execute(delete_node(name))


def _require_running(work: Work) -> None:
    if work.machine is None:
        hint = "what it starts with stands in its vm.toml: qorch up"
        raise MachineError(f"{work.name} does not run", hint)


def _change_disk(
    plan: MachinePlan, id_: str, change: Callable[[DiskPlan], DiskPlan]
) -> MachinePlan:
    disks = (change(disk) if disk.id == id_ else disk for disk in plan.disks)
    return attrs.evolve(plan, disks=tuple(disks))


def _find_medium(path: Path) -> Backing:
    info = find_image(path)
    if info is None:
        raise InputError.from_problems([Problem("path", f"{path} does not exist")])
    if info.backing_file is not None:
        raise InputError.from_problems(
            [Problem("path", f"{path} builds on another image", "a medium is one image")]
        )
    return Backing(path=path, format=info.format)
