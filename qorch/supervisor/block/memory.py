"""The memory of a snapshot: written while the guest runs on, complete when it is stopped.

Only then the disks are switched, in one transaction, so that they are what the guest has seen last.
Whoever finds a supervisor gone before that gives the memory up and lets the guest go on; after it,
the snapshot is whole.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from qorch.block.jobs import PREFIX, Job, JobStatus
from qorch.block.record import Journal, Step
from qorch.errors import InputError, MachineError, Problem
from qorch.migration import Migration, end_saving, find_migration, save_memory, wake
from qorch.supervisor.block.work import Work
from qorch_storage.errors import StorageError

MEMORY_JOB = f"{PREFIX}memory"
_STATES = {"running", "paused"}  # what a guest can go on from


async def check_memory(work: Work, *, freeze: bool | None) -> None:
    """Refuse what cannot be done before anything is changed. Raises InputError, MachineError."""
    if freeze:
        raise InputError.from_problems(
            [
                Problem(
                    "freeze", "a snapshot with memory has the guest's caches, frozen it would stay"
                )
            ]
        )
    if work.machine is None:
        raise MachineError(
            f"{work.name} does not run: it has no memory", "make a snapshot without --memory"
        )
    if (status := work.machine.status) not in _STATES:
        raise MachineError(f"{work.name} is {status}: its guest could not go on from that")
    blockers = list((await find_migration(work.monitor)).blockers)
    blockers += [f"the share {share.id} has its state outside QEMU" for share in work.plan.shares]
    if blockers:
        raise MachineError(
            f"the memory of {work.name} cannot be saved: {'; '.join(blockers)}",
            "make a snapshot without --memory",
        )


async def write_memory(work: Work, path: Path) -> None:
    """Write a running machine's memory to a file; its guest is stopped then.

    Raises MachineError, StorageError.
    """
    percent = -1

    def tell(migration: Migration) -> None:
        nonlocal percent
        if percent != migration.percent:
            percent = migration.percent
            work.step(f"write memory: {percent} %")

    work.step("write memory")
    fd = await work.in_thread(_make_file, path)
    try:
        sync = functools.partial(work.in_thread, os.fdatasync, fd)
        await save_memory(work.monitor, fd, report=tell, sync=sync)
    finally:
        os.close(fd)


def _make_file(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError.from_os_error(f"make {path}", error) from error


async def find_memory_jobs(work: Work) -> list[Job]:
    """The writing of memory as a job, which QEMU does not call it, if it goes on."""
    found = await find_migration(work.monitor)
    if not found.is_active:
        return []
    return [
        Job(
            id=MEMORY_JOB,
            type="memory",
            status=JobStatus(found.status),
            state=found.status,
            current=found.current,
            total=found.total,
        )
    ]


async def let_go_on(work: Work, journal: Journal) -> None:
    """End what is left of writing memory; the guest goes on if it ran. May be done again."""
    begun = journal.holds and journal.step is not Step.MAKING
    if work.machine is None or journal.snapshot is None or not begun:
        return
    if journal.memory is not None:
        await end_saving(work.monitor)
    work.step("let the guest go on")
    await wake(work.monitor, run=journal.snapshot.ran)
