"""A machine's memory and the state of its devices, written to a file by QEMU and read from one.

QEMU 7.2 knows that as migration to a file descriptor (`fd:`, docs/devel/migration.rst). The guest
runs on while its memory is written, and what it changes meanwhile is written again; it is stopped
for the rest. Then QEMU has let go of all images (they are inactive) until `cont`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from qorch.errors import MachineError
from qorch.qmp import CommandError, EventsLostError, Listener, Monitor

_FD = "qorch-memory"
_BANDWIDTH = 1 << 40  # bytes a second: the disk is the limit, not QEMU's 128 MiB/s
_ROUNDS = 5  # a guest that changes memory faster than it is written is stopped after so many
_LOOK = 0.5  # seconds between two looks at the progress
_LOOK_OVER = 0.005  # the same, for the instant between the last byte and QEMU's being done
_ACTIVE = {"setup", "active", "device", "pre-switchover", "wait-unplug", "cancelling"}


@attrs.frozen(kw_only=True)
class Migration:
    """What `query-migrate` says; bytes of memory, and `blockers` that forbid it beforehand."""

    status: str = "none"
    remaining: int = 0
    total: int = 0
    rounds: int = 0
    error: str | None = None
    blockers: tuple[str, ...] = ()

    @classmethod
    def from_qmp(cls, answer: Any) -> Migration:
        """Read the answer (MigrationInfo in qapi/migration.json)."""
        memory = answer.get("ram", {})
        return cls(
            status=answer.get("status", "none"),
            remaining=memory.get("remaining", 0),
            total=memory.get("total", 0),
            rounds=memory.get("dirty-sync-count", 0),
            error=answer.get("error-desc"),
            blockers=tuple(answer.get("blocked-reasons", ())),
        )

    @property
    def is_active(self) -> bool:
        """Whether it is on its way."""
        return self.status in _ACTIVE

    @property
    def current(self) -> int:
        """The bytes that are written."""
        return self.total - self.remaining

    @property
    def percent(self) -> int:
        """How far it has come."""
        return 100 * self.current // self.total if self.total else 0


async def find_migration(monitor: Monitor) -> Migration:
    """Look how far it is."""
    return Migration.from_qmp(await monitor.execute("query-migrate"))


async def save_memory(
    monitor: Monitor,
    fd: int,
    *,
    report: Callable[[Migration], Any],
    sync: Callable[[], Awaitable[None]],
) -> None:
    """Write memory and devices to a file; the guest is stopped when that is done.

    `sync` is awaited now and then, for the file's data to be on the disk before the guest waits
    for it. Raises MachineError with QEMU's reason; the guest then goes on if it ran.
    """
    with monitor.listen("MIGRATION", "MIGRATION_PASS") as events:
        await _prepare(monitor, fd)
        await monitor.execute("migrate-set-parameters", {"max-bandwidth": _BANDWIDTH})
        try:
            await monitor.execute("migrate", {"uri": f"fd:{_FD}"})
        except CommandError as error:
            await monitor.execute("closefd", {"fdname": _FD})
            raise MachineError(f"its memory cannot be saved: {error.message}") from error
        while (found := await find_migration(monitor)).is_active:
            report(found)
            if found.rounds > _ROUNDS:
                await monitor.execute("stop")
            await _wait(events)
            await sync()
    if found.status != "completed":
        words = "was cancelled" if found.status == "cancelled" else f"failed: {found.error}"
        raise MachineError(f"saving its memory {words}")
    await _wait_over(monitor, "finish-migrate")
    await sync()


async def load_memory(monitor: Monitor, fd: int) -> None:
    """Read memory and devices from a file into a QEMU that was started for that; it is paused then.

    QEMU ends if it cannot be done: raises MonitorLostError.
    """
    with monitor.listen("MIGRATION") as events:
        await _prepare(monitor, fd)
        await monitor.execute("migrate-incoming", {"uri": f"fd:{_FD}"})
        while (found := await find_migration(monitor)).status != "completed":
            if found.status == "failed":
                raise MachineError(f"the memory cannot be loaded: {found.error}")
            await _wait(events)
    await _wait_over(monitor, "inmigrate")


async def end_saving(monitor: Monitor) -> None:
    """Give up what is being written, if anything is."""
    if (await find_migration(monitor)).is_active:
        with monitor.listen("MIGRATION") as events:
            await monitor.execute("migrate_cancel")
            while (await find_migration(monitor)).is_active:
                await _wait(events)
    await _wait_over(monitor, "finish-migrate")


async def wake(monitor: Monitor, *, run: bool) -> None:
    """Give a guest that was stopped for its memory its images back, and with `run` let it go on.

    Only `cont` does the first: a guest that shall not run does for less than a millisecond.
    """
    status = await find_status(monitor)
    if status == "postmigrate" or (run and status == "paused"):
        await monitor.execute("cont")
        if not run:
            await monitor.execute("stop")


async def find_status(monitor: Monitor) -> str:
    """QEMU's RunState."""
    return str((await monitor.execute("query-status"))["status"])


async def _prepare(monitor: Monitor, fd: int) -> None:
    events = [{"capability": "events", "state": True}]
    await monitor.execute("migrate-set-capabilities", {"capabilities": events})
    await monitor.execute("getfd", {"fdname": _FD}, fds=[fd])


async def _wait(events: Listener) -> None:
    """Wait until something has happened, or it is time to look."""
    with trio.move_on_after(_LOOK):
        try:
            await anext(events)
        except EventsLostError:
            return


async def _wait_over(monitor: Monitor, status: str) -> None:
    """A migration is complete some instants before QEMU takes commands for the guest."""
    while await find_status(monitor) == status:  # noqa: ASYNC110  nothing tells when
        await trio.sleep(_LOOK_OVER)
