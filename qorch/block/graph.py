"""QEMU's block graph as values: which image each disk is now, and what nodes it is made of.

Node names in a running QEMU differ from those of its command line as soon as a snapshot or a move
has put another image on top, so nothing here is known beforehand: the graph is read from
`query-block` (what the guest's devices have) and `query-named-block-nodes` (all nodes), and images
are told apart by their paths. A node on which another one was put explicitly has a pseudo-protocol
name, `json:{…}`, in which the path stands at the end of the `file` links (block.c,
bdrv_refresh_filename).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from qorch.errors import MachineError
from qorch.plan.firmware import VARIABLES
from qorch_storage.plan import Backing, ImageFormat

_FORMATS = frozenset(ImageFormat)
_VARIABLES_DEVICE = "/machine/system.flash1"  # hw/i386/pc_sysfw.c
_MAX_NAME = 31  # BLOCK_NODE_NAME_MAX


@attrs.frozen(kw_only=True)
class Bitmap:
    """A dirty bitmap of a node; `count` is the dirty bytes."""

    name: str
    count: int
    persistent: bool
    recording: bool
    inconsistent: bool = False


@attrs.frozen(kw_only=True)
class Node:
    """A format node: one image. `size` is what the guest sees, in bytes."""

    name: str
    image: Backing
    size: int
    read_only: bool
    bitmaps: tuple[Bitmap, ...] = ()


@attrs.frozen(kw_only=True)
class Disk:
    """What one device of the guest has in it: its images from the top down, if any.

    `node` is the one on top, maybe a filter; `tray_open` is None for a drive without a tray. `qdev`
    is what QEMU calls the device that holds the block back end, which may be a child of the
    one that was plugged in (virtio-blk, usb-storage); commands on the back end take that alone.
    """

    id: str
    qdev: str
    chain: tuple[Path, ...]
    node: str | None = None
    tray_open: bool | None = None

    @property
    def top(self) -> Path | None:
        """The image that the guest writes to."""
        return self.chain[0] if self.chain else None


@attrs.frozen(kw_only=True)
class Graph:
    """All disks by id, and all format nodes by the path of their image."""

    disks: Mapping[str, Disk]
    nodes: Mapping[Path, Node]
    names: frozenset[str]

    @classmethod
    def from_qmp(cls, blocks: Iterable[Any], nodes: Iterable[Any]) -> Graph:
        """Read the answers of `query-block` and `query-named-block-nodes`."""
        found = list(nodes)
        return cls(
            disks={disk.id: disk for block in blocks if (disk := _read_disk(block))},
            nodes={node.image.path: node for item in found if (node := _read_node(item))},
            names=frozenset(item["node-name"] for item in found),
        )

    def find(self, disk: str) -> Disk:
        """A disk of the guest. Raises MachineError if QEMU has no such device."""
        if disk not in self.disks:
            raise MachineError(f"QEMU has no device for {disk}", "start the machine anew")
        return self.disks[disk]

    def top(self, disk: str) -> Path | None:
        """The image that a disk of the guest is now; None if there is no such disk, or nothing."""
        found = self.disks.get(disk)
        return found.top if found else None

    def top_node(self, disk: str) -> Node | None:
        """The node of that image."""
        path = self.top(disk)
        return self.nodes.get(path) if path is not None else None

    def find_unused(self, disk: str) -> list[Path]:
        """The images that were opened for a disk and that it does not build on now."""
        chain = self.find(disk).chain
        return [
            path
            for path, node in self.nodes.items()
            if path not in chain and f"{node.name}-".startswith(f"{disk}-")
        ]

    def free_name(self, disk: str) -> str:
        """A node name that is not taken, and whose protocol node's is not."""
        number = 1
        while {f"{disk}-{number}", f"{disk}-{number}-file"} & self.names:
            number += 1
        return f"{disk}-{number}"


def find_disk_id(qdev: str) -> str | None:
    """The disk of a device: `disk0` of `disk0-dev` or `/machine/peripheral/disk0-dev/…`.

    The second flash of a machine is where its firmware's variables are.
    """
    if qdev == _VARIABLES_DEVICE:
        return VARIABLES
    for part in qdev.split("/"):
        if part.endswith("-dev"):
            return part.removesuffix("-dev")
    return None


def find_path(filename: str) -> Path | None:
    """The file behind QEMU's name of an image; None for what is none, such as `nbd://…`."""
    if not filename.startswith("json:"):
        return None if "://" in filename else Path(filename)
    node = json.loads(filename.removeprefix("json:"))
    while isinstance(node, dict):
        if "filename" in node:
            return Path(node["filename"])
        node = node.get("file")
    return None


def _read_disk(block: Any) -> Disk | None:
    qdev = block.get("qdev", "")
    id_ = find_disk_id(qdev)
    if id_ is None:
        return None
    image = block.get("inserted", {}).get("image")
    return Disk(
        id=id_,
        qdev=qdev,
        chain=tuple(_walk(image)),
        node=block.get("inserted", {}).get("node-name"),
        tray_open=block.get("tray_open"),
    )


def _walk(image: Any) -> Iterator[Path]:
    """The paths from the top down; a job's filter node has the path of the node below it."""
    last = None
    while image:
        path = find_path(image["filename"])
        if path not in (None, last):
            yield path
        last, image = path, image.get("backing-image")


def _read_node(item: Any) -> Node | None:
    path = find_path(item["image"]["filename"])
    if item["drv"] not in _FORMATS or path is None:
        return None
    return Node(
        name=item["node-name"],
        image=Backing(path=path, format=ImageFormat(item["drv"])),
        size=item["image"]["virtual-size"],
        read_only=item["ro"],
        bitmaps=tuple(
            Bitmap(
                name=bitmap["name"],
                count=bitmap["count"],
                persistent=bitmap["persistent"],
                recording=bitmap["recording"],
                inconsistent=bitmap.get("inconsistent", False),
            )
            for bitmap in item.get("dirty-bitmaps", ())
            if "name" in bitmap
        ),
    )
