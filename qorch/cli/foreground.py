"""`qorch up --foreground`: this process is the supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qorch import serve
from qorch.cli.output import Progress as Screen
from qorch.progress import Progress

if TYPE_CHECKING:
    from qorch.client import Document
    from qorch.paths import StateDir


def run_foreground(
    state: StateDir, document: Document, screen: Screen, wait: float | None, restart: bool
) -> None:
    """Bring a document up and end when its machines have ended."""

    def report(progress: Progress) -> None:
        line: dict[str, Any] = {"kind": progress.kind, "name": progress.name}
        if progress.message:
            screen({**line, "type": "note", "message": progress.message})
        else:
            screen({**line, "type": "step", "step": progress.step})

    serve.run_foreground(
        state,
        document.text,
        Path(document.directory),
        document.file,
        report=report,
        wait=wait,
        restart=restart,
    )
