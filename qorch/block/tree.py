"""The images of a machine as a tree: what builds on what, and what can be merged or removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import attrs

from qorch.block.record import Record, Snapshot
from qorch_storage.plan import Backing


@attrs.frozen(kw_only=True)
class Merge:
    """An image that nobody needs as it is any more, and the one image that builds on it."""

    disk: str
    top: Backing
    base: Backing


@attrs.frozen(kw_only=True)
class Images:
    """All images that a disk's data and its snapshots lie in: chains from their tops down."""

    disk: str
    active: Backing
    chains: tuple[tuple[Backing, ...], ...]

    @property
    def all(self) -> Mapping[Path, Backing]:
        """Every image by its path."""
        return {image.path: image for chain in self.chains for image in chain}

    def children_of(self, path: Path) -> dict[Path, Backing]:
        """The images that build on one."""
        return {
            top.path: top
            for chain in self.chains
            for top, below in pairwise(chain)
            if below.path == path
        }

    def find_merge(self, owned: set[Path], named: set[Path]) -> Merge | None:
        """An image of ours with a single child that no snapshot has and the guest does not write.

        The lowest one comes first, so that what is merged is merged once.
        """
        for chain in self.chains:
            for base in reversed(chain[1:]):
                children = list(self.children_of(base.path).values())
                if base.path in owned - named and len(children) == 1:
                    return Merge(disk=self.disk, top=children[0], base=base)
        return None


def draw(record: Record) -> Iterator[tuple[str, Snapshot]]:
    """The snapshots as a tree, parents first: the lines before each name, and the snapshot."""
    yield from _draw(record, None, "")


def _draw(record: Record, parent: str | None, indent: str) -> Iterator[tuple[str, Snapshot]]:
    children = [item for item in record.snapshots if item.parent == parent]
    for item in children:
        last = item is children[-1]
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        lines = ("", "") if parent is None else (branch, below)
        yield indent + lines[0], item
        yield from _draw(record, item.name, indent + lines[1])
