"""How pools and volumes are printed: cells, details, trees, and images to standard output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import IO, Any

from qorch.cli.output import format_size, print_json

_BLOCK = 1 << 16  # bytes: so many zeroes become a hole in a file


def make_cells(row: dict[str, Any], keys: Iterable[str]) -> list[object]:
    """The values of a row, sizes for people."""
    sizes = {"capacity", "allocation", "free", "promised", "size"}
    cells: list[object] = []
    for key in keys:
        value = row.get(key)
        if key in sizes and value is not None:
            value = format_size(value)
        cells.append(" ".join(value) if isinstance(value, list) else value)
    return cells


def describe_overcommit(row: dict[str, Any]) -> str:
    """Words about a thin pool that promises more than it has."""
    over = row["type"] == "lvm-thin" and (row["overcommit"] or 0) > 1
    return f"{row['overcommit']:.4g} times promised" if over else ""


def print_details(details: dict[str, Any], *, as_json: bool) -> None:
    """All that is known of one thing."""
    if as_json:
        print_json(details)
        return
    for key, value in details.items():
        (cell,) = make_cells({key: value}, [key]) if not _is_table(value) else [""]
        print(f"{key + ':':17} {'' if cell is None else cell}".rstrip())
        for item in value if _is_table(value) else ():
            print(" " * 18 + " ".join(f"{k}={v}" for k, v in item.items() if v is not None))


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def draw_tree(nodes: list[dict[str, Any]], before: str | None = None) -> Iterator[str]:
    """The lines of a tree."""
    for index, node in enumerate(nodes):
        last = index == len(nodes) - 1
        mark = "" if before is None else before + ("└─ " if last else "├─ ")
        below = "" if before is None else before + ("   " if last else "│  ")
        name = f"{node['pool']}/{node['name']}" if node["name"] else f"{node['path']} (in no pool)"
        yield mark + name
        yield from draw_tree(node["children"], below)


def write_sparse(file: IO[bytes], pieces: Iterable[bytes]) -> None:
    """Write to a file with holes for zeroes; to a pipe or terminal, everything."""
    end = 0
    seekable = file.seekable() and not _appends(file)
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK):
            block = piece[start : start + _BLOCK]
            if seekable and not any(block):
                file.seek(len(block), os.SEEK_CUR)
            else:
                file.write(block)
        end += len(piece)
    file.flush()
    if seekable:
        os.truncate(file.fileno(), file.tell())


def _appends(file: IO[bytes]) -> bool:
    import fcntl

    return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_APPEND)
