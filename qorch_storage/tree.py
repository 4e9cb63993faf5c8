"""What builds on what: from a list of volumes to their dependents and trees. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from qorch_storage.info import ImageInfo, Volume


@attrs.frozen(kw_only=True)
class Node:
    """An image and those that build on it; `volume` is `None` if it lies in no pool."""

    path: Path
    volume: Volume | None
    children: tuple[Node, ...] = ()


def find_dependents(path: Path, volumes: Iterable[Volume]) -> tuple[Volume, ...]:
    """Those whose backing file is the file `path`, which has no symbolic links in it."""
    return tuple(
        volume
        for volume in volumes
        if volume.image is not None and volume.image.real_backing == path
    )


def find_outside(
    chain: Sequence[ImageInfo], places: Iterable[Path], named: Iterable[Path]
) -> ImageInfo | None:
    """The first backing image of a chain that neither lies in one of the places nor was named.

    An image can claim any file of the host as its parent. Only the first one, which somebody
    asked for, is taken at its word. Places and names have no symbolic links in them.
    """
    known, directories = set(named), set(places)
    for image in chain[1:]:
        real = image.real_path or image.path
        if real not in known and not directories & set(real.parents) and image.path not in known:
            return image
    return None


def make_tree(volumes: Sequence[Volume]) -> tuple[Node, ...]:
    """Order volumes under what they build on; what builds on nothing known is a root."""
    real = {_real(volume): volume for volume in volumes}
    parents = {
        key: volume.image.real_backing
        for key, volume in real.items()
        if volume.image is not None and volume.image.real_backing is not None
    }
    children: dict[Path, list[Path]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)

    def grow(path: Path, above: frozenset[Path]) -> Node:
        below = [child for child in children.get(path, ()) if child not in above | {path}]
        nodes = tuple(grow(child, above | {path}) for child in below)
        return Node(path=path, volume=real.get(path), children=nodes)

    outside = [path for path in children if path not in real]
    tops = [path for path in real if path not in parents]
    roots = [*tops, *dict.fromkeys(outside)]
    seen = set(roots)
    for path in real:  # rings have no top: begin anywhere
        at, walked = path, {path}
        while at in parents and parents[at] not in walked:
            at = parents[at]
            walked.add(at)
        if not seen & walked:
            roots.append(path)
            seen |= walked
    return tuple(grow(path, frozenset()) for path in sorted(roots))


def _real(volume: Volume) -> Path:
    return (volume.image and volume.image.real_path) or volume.path
