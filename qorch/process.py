"""Processes that outlive us: started in a session of their own, watched and ended by pidfd.

A process is ours if its environment says so (QORCH_OWNER). That is true from the moment it runs
its program, needs no file, and cannot be mistaken for another process that got the same pid.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import psutil
import trio

from qorch.errors import MachineError

MARK = "QORCH_OWNER"
CURES: Mapping[int | None, str] = {
    -signal.SIGKILL: "the kernel kills who uses too much memory: dmesg tells",
    -signal.SIGSYS: "it made a system call that its sandbox forbids: sandbox = false allows all",
}


@attrs.define(eq=False)
class Process:
    """A running process and the pidfd that refers to it and no other."""

    pid: int
    pidfd: int
    started: float  # Unix time in seconds, as the kernel has it
    _child: subprocess.Popen[bytes] | None = None
    _status: int | None = None

    @classmethod
    def from_pid(cls, pid: int, child: subprocess.Popen[bytes] | None = None) -> Process:
        """Raises ProcessLookupError if there is none."""
        pidfd = os.pidfd_open(pid)
        try:
            return cls(pid, pidfd, psutil.Process(pid).create_time(), child)
        except psutil.NoSuchProcess:
            os.close(pidfd)
            raise ProcessLookupError(pid) from None

    @property
    def uptime(self) -> float:
        """Seconds since it was started."""
        return max(0.0, time.time() - self.started)

    @property
    def is_alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return not is_readable(self.pidfd, 0)

    async def wait(self) -> int | None:
        """Wait for its end; the exit status as Popen has it, None if it was no child of ours."""
        await trio.lowlevel.wait_readable(self.pidfd)
        if self._child is not None:
            self._status = self._child.wait()
        return self._status

    def wait_nowait(self) -> None:
        """Block until it has ended, which must be near; a child of ours is no zombie then."""
        is_readable(self.pidfd, None)
        if self._child is not None:
            self._status = self._child.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone does not mind."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def set_affinity(self, thread: int, cpus: Collection[int]) -> None:
        """Pin one thread to host CPUs; psutil takes thread ids on Linux. Raises MachineError."""
        try:
            psutil.Process(thread).cpu_affinity(sorted(cpus))
        except (psutil.Error, OSError, ValueError) as error:
            raise MachineError(f"thread {thread} cannot be pinned: {error}") from error

    def find_threads(self) -> list[int]:
        """The ids of its threads; none if it is gone."""
        try:
            return [thread.id for thread in psutil.Process(self.pid).threads()]
        except psutil.Error:
            return []

    def find_affinity(self, thread: int) -> list[int]:
        """The host CPUs a thread may run on; empty if it is gone."""
        try:
            return list(psutil.Process(thread).cpu_affinity() or ())
        except psutil.Error:
            return []

    def close(self) -> None:
        """Let go of the pidfd."""
        os.close(self.pidfd)


def start_process(
    argv: Sequence[str], *, mark: str, fds: Sequence[int], output: int, env: Mapping[str, str]
) -> Process:
    """Run a program in a session of its own, with these fds and the mark. Blocks until it runs.

    Raises MachineError if it cannot be run at all.
    """
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=fds,
            start_new_session=True,
            env={**env, MARK: mark},
            cwd="/",
        )
    except OSError as error:
        raise MachineError(
            f"{argv[0]} does not run: {error.strerror}", f"ls -l {argv[0]}"
        ) from error
    try:
        return Process.from_pid(child.pid, child)
    except BaseException:  # nobody would know of it
        child.kill()
        child.wait()
        raise


def is_readable(fd: int, seconds: float | None) -> bool:
    """Block until there is something to read, or the seconds are over; a pidfd tells of an end.

    `select.select` takes no number above 1023.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def find_processes(prefix: str) -> Iterator[tuple[str, Process]]:
    """All processes whose mark begins so, with the rest of it. The caller closes them."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or _read_mark(int(entry.name)) is None:
            continue
        try:
            process = Process.from_pid(int(entry.name))
        except (ProcessLookupError, OSError):
            continue
        mark = _read_mark(process.pid)  # again: now that the pidfd holds the process
        if mark is not None and mark.startswith(prefix) and process.is_alive:
            yield mark.removeprefix(prefix), process
        else:
            process.close()


def _read_mark(pid: int) -> str | None:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    marks = (item for item in environ.split(b"\0") if item.startswith(f"{MARK}=".encode()))
    return next((os.fsdecode(mark.partition(b"=")[2]) for mark in marks), None)


def describe_end(status: int | None) -> str:
    """How a process ended, of its status as Popen has it."""
    if status is None:
        return "nobody knows how"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
