"""What can be changed about a disk while its guest uses it: its size, its limits, its medium."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qorch.block.commands import Command, resize, set_group_limits, set_limits
from qorch.block.nodes import make_node
from qorch.errors import InputError, MachineError, Problem
from qorch.plan import DiskPlan
from qorch.qmp import CommandError
from qorch.supervisor.block.images import grow_image, is_device, read_size
from qorch.supervisor.block.snapshots import find_tops
from qorch.supervisor.block.work import Work
from qorch_storage.image import find_image
from qorch_storage.plan import Backing, check_volume_size


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


async def limit_disk(work: Work, disk: str, limits: Mapping[str, int]) -> None:
    """Change what a running disk may do; limits that are not given are none.

    The names are those of `throttle` in vm.toml. Raises MachineError.
    """
    work.find_disk(disk)
    device = (await work.graph()).find(disk).qdev
    work.step(f"limit {disk}")
    if not await work.try_execute(set_group_limits(f"{disk}-limits", limits)):
        try:
            await work.execute(set_limits(device, limits))
        except CommandError as error:
            raise MachineError(f"{disk} cannot be limited so: {error}") from error


async def change_medium(work: Work, disk: str, path: Path | None) -> None:
    """Take the medium out of a drive and, with a path, put an image in. Raises MachineError."""
    plan = work.find_disk(disk)
    image = await work.in_thread(_find_medium, path) if path is not None else None
    if work.machine is not None:
        device = (await work.graph()).find(disk).qdev
        await _open_tray(work, plan, device)
        if image is not None:
            graph = await work.graph()
            name = graph.free_name(disk)
            block = await work.in_thread(is_device, image.path)
            node = make_node(name, image, device=block, read_only=True)
            await work.execute(Command("blockdev-add", node))
            medium = {"id": device, "node-name": name}
            await work.execute(Command("blockdev-insert-medium", medium))
        await work.execute(Command("blockdev-close-tray", {"id": device}))
    work.put_medium(disk, image)


async def _open_tray(work: Work, disk: DiskPlan, device: str) -> None:
    old = (await work.graph()).top(disk.id)
    work.step(f"change medium of {disk.id}")
    try:
        await work.execute(Command("blockdev-open-tray", {"id": device, "force": True}))
        await work.execute(Command("blockdev-remove-medium", {"id": device}))
    except CommandError as error:
        raise MachineError(f"{disk.id} is no drive with a medium: {error}") from error
    if old is not None:
        await work.close_nodes([old])


def _find_medium(path: Path) -> Backing:
    info = find_image(path)
    if info is None:
        raise InputError.from_problems([Problem("path", f"{path} does not exist")])
    return Backing(path=path, format=info.format)
