"""What the verbs print: tables, JSON, progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Self

_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def print_json(value: object) -> None:
    """JSON for programs."""
    print(json.dumps(value, indent=2))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table: drawn by rich on a terminal, plain columns elsewhere."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headers, texts)
        return
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    for row in (list(headers), *texts):
        print(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _draw(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in headers:
        table.add_column(header)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def format_size(size: int) -> str:
    """Bytes for people: `512MiB`."""
    for unit, factor in _UNITS:
        if size >= factor:
            return f"{size / factor:.4g}{unit}"
    return f"{size}B"


def format_uptime(seconds: float | None) -> str:
    """Seconds for people: `3m12s`."""
    if seconds is None:
        return ""
    whole = int(seconds)
    parts = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"))
    shown = [f"{value}{unit}" for value, unit in parts if value][:2]
    return "".join(shown) if len(shown) == 2 else "".join([*shown, f"{whole % 60}s"])


class Progress:
    """Steps and notes on stderr as they come; on a terminal, steps overwrite each other."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._width = 0

    def __call__(self, line: dict[str, Any]) -> None:
        """Take one line of a request's progress."""
        about = f"{line.get('kind', '')} {line.get('name', '')}"
        if line["type"] == "note":
            self._clear()
            print(f"note: {about}: {line['message']}", file=sys.stderr)
        elif not self._live:
            print(f"{about}: {line['step']}", file=sys.stderr)
        else:
            self._clear()
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
            text = f"{about}: {line['step']}"[: max(columns, 20) - 1]
            self._width = len(text)
            print(text, end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        self._clear()
        if kind is KeyboardInterrupt:
            note = "note: interrupted here; what was asked for goes on in the supervisor"
            print(note, file=sys.stderr)

    def _clear(self) -> None:
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0
