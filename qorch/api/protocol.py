"""What the API asks of the supervisor; `qorch.supervisor` has it."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import trio

    from qorch.paths import StateDir
    from qorch.progress import Report
    from qorch.spec import Spec


class Console(AsyncIterable[bytes], Protocol):
    """What a machine prints from now on (bounded; it says what it dropped), and its keyboard."""

    async def send(self, data: bytes, /) -> None:
        """Type."""


class Supervisor(Protocol):
    """The verbs. All raise QorchError, NetError or StorageError; others are internal errors."""

    @property
    def state(self) -> StateDir:
        """Where its things are."""

    def find_machines(self) -> list[dict[str, object]]:
        """List the machines as `qorch ls --json` prints them."""

    async def show_machine(self, name: str) -> dict[str, object]:
        """Describe a machine as `qorch show --json` prints it."""

    async def plan(self, spec: Spec, *, down: bool = False) -> Sequence[Any]:
        """List the changes: attrs values with `action`, `kind`, `name`, `detail`."""

    async def up(
        self, spec: Spec, *, report: Report, wait: float | None = None, restart: bool = False
    ) -> None:
        """Make the host what the spec says."""

    async def down(self, spec: Spec, *, report: Report, volumes: bool = False) -> None:
        """Remove what the spec defines."""

    async def start_machine(self, name: str, *, report: Report, wait: float | None = None) -> None:
        """Start a machine."""

    async def stop_machine(self, name: str, *, report: Report, grace: float | None = None) -> None:
        """Stop a machine."""

    async def restart_machine(
        self, name: str, *, report: Report, grace: float | None = None, wait: float | None = None
    ) -> None:
        """Stop a machine and start it again."""

    async def kill_machine(self, name: str, *, report: Report) -> None:
        """End a machine at once."""

    async def remove_machine(self, name: str, *, report: Report, volumes: bool = False) -> None:
        """Stop and forget a machine."""

    def open_console(self, name: str) -> AbstractContextManager[Console]:
        """Watch a serial console."""

    def find_log(self, name: str) -> Path:
        """Find the console log."""

    def open_events(
        self, machine: str | None = None
    ) -> AbstractContextManager[trio.MemoryReceiveChannel[dict[str, Any]]]:
        """Listen to events (bounded; they say what was dropped) of one machine or of all."""
