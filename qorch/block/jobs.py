"""Block jobs as values: what QEMU says of one, and what to do next about it (qapi/job.json)."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import attrs

PREFIX = "qorch-"  # of the ids of jobs that are ours


class JobStatus(enum.Enum):
    """QEMU's JobStatus; those of no importance here are OTHER."""

    RUNNING = "running"
    PAUSED = "paused"
    READY = "ready"
    PENDING = "pending"
    CONCLUDED = "concluded"
    OTHER = ""

    @classmethod
    def _missing_(cls, _value: object) -> JobStatus:
        return cls.OTHER


@attrs.frozen(kw_only=True)
class Job:
    """A job of QEMU. `current` and `total` are bytes, and `total` may still grow."""

    id: str
    type: str
    status: JobStatus
    state: str
    current: int = 0
    total: int = 0
    error: str | None = None

    @property
    def percent(self) -> int:
        """How far it has come."""
        return min(100, 100 * self.current // self.total) if self.total else 0

    @property
    def is_ours(self) -> bool:
        """Whether qorch started it."""
        return self.id.startswith(PREFIX)


def make_job_id(verb: str, disk: str) -> str:
    """The id of the one job that a verb may have on a disk."""
    return f"{PREFIX}{verb}-{disk}"


def read_jobs(answer: Iterable[Any]) -> dict[str, Job]:
    """The answer of `query-jobs`, by id."""
    return {
        item["id"]: Job(
            id=item["id"],
            type=item["type"],
            status=JobStatus(item["status"]),
            state=item["status"],
            current=item["current-progress"],
            total=item["total-progress"],
            error=item.get("error"),
        )
        for item in answer
    }
