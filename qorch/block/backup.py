"""Backups as values: what lies in a backup's directory, and how QEMU is asked to make one.

A backup is a directory with one qcow2 image for each disk and a manifest, which is written last. An
incremental one builds on the one before it: its images have that one's as backing files.

What has changed since a backup is in a dirty bitmap that was added, on all disks at one moment,
when the backup was begun. It goes on recording when it is used: a new backup starts its own bitmap
in the transaction that begins it, copies what the old one says, and removes the old one when it is
complete. So nothing has to be put back if it fails. A snapshot puts a new image on top, and gives
it a bitmap of the same name; what was recorded below is added in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from qorch.block.commands import (
    Action,
    add_bitmap,
    as_action,
    backup,
    merge_bitmaps,
)
from qorch.block.graph import Graph
from qorch.block.jobs import make_job_id
from qorch_storage.plan import ImageFormat

VERSION = 1
MANIFEST = "backup.json"
SINCE = "qorch-since"  # what has changed since the last backup, as of now; gone with the job


@attrs.frozen(kw_only=True)
class Manifest:
    """One backup: its disks' sizes in bytes by their ids, and the bitmap that began with it."""

    version: int = VERSION
    machine: str
    id: str
    parent: str | None
    time: float
    bitmap: str
    frozen: bool = False
    disks: Mapping[str, int]

    def image(self, directory: Path, disk: str) -> Path:
        """Where a disk's image lies, under the directory that holds all backups."""
        return directory / self.id / f"{disk}.qcow2"


@attrs.frozen(kw_only=True)
class BackupPlan:
    """A backup on its way into `directory`: complete, it is called `directory/manifest.id`."""

    directory: Path
    manifest: Manifest
    old_bitmap: str | None

    @property
    def place(self) -> Path:
        """Where it lies until it is complete."""
        return self.directory / f".{self.manifest.id}.new"

    def image(self, disk: str) -> Path:
        """Where a disk's image lies until then."""
        return self.place / f"{disk}.qcow2"


def next_id(ids: Iterable[str]) -> str:
    """The id after all those."""
    numbers = [int(id_) for id_ in ids if id_.isdecimal()]
    return f"{max(numbers, default=0) + 1:04}"


def make_bitmap_name(machine: str, id_: str, seconds: float) -> str:
    """The bitmap of a backup: it must not be taken for another directory's."""
    return f"qorch-{machine}-{id_}-{int(seconds * 1000):x}"


def find_sources(graph: Graph, disk: str, bitmap: str) -> list[tuple[str, str]]:
    """The nodes of a disk's chain that have a bitmap, which is none unless the top one has it."""
    found: list[tuple[str, str]] = []
    for path in graph.disks[disk].chain if disk in graph.disks else ():
        node = graph.nodes.get(path)
        for item in node.bitmaps if node else ():
            if node and item.name == bitmap:
                if item.inconsistent or not item.recording:
                    return []
                found.append((node.name, bitmap))
    top = graph.top_node(disk)
    return found if top is not None and (top.name, bitmap) in found else []


def make_actions(plan: BackupPlan, graph: Graph, targets: Mapping[str, str]) -> Iterator[Action]:
    """What begins a backup of all disks at one moment; `targets` are nodes by disk."""
    for disk, target in targets.items():
        node = graph.top_node(disk)
        if node is None:
            continue
        persistent = node.image.format is ImageFormat.QCOW2
        yield as_action(add_bitmap(node.name, plan.manifest.bitmap, persistent=persistent))
        since = None
        if plan.old_bitmap is not None:
            since = SINCE
            yield as_action(add_bitmap(node.name, since, persistent=False, disabled=True))
            sources = find_sources(graph, disk, plan.old_bitmap)
            yield as_action(merge_bitmaps(node.name, since, sources))
        job = make_job_id("backup", disk)
        yield as_action(backup(job, node=node.name, target=target, bitmap=since))


def find_done_bitmaps(
    graph: Graph, disks: Sequence[str], names: Iterable[str | None]
) -> Iterator[tuple[str, str]]:
    """Bitmaps, as pairs of node and name, that are not needed any more and can be removed."""
    unwanted = {name for name in (*names, SINCE) if name is not None}
    for disk in disks:
        for path in graph.disks[disk].chain if disk in graph.disks else ():
            node = graph.nodes.get(path)
            if node is not None and not node.read_only:
                yield from (
                    (node.name, bitmap.name) for bitmap in node.bitmaps if bitmap.name in unwanted
                )
