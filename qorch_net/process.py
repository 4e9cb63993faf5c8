"""Processes that carry our mark in their environment, found and stopped without a pid file."""

from __future__ import annotations

import os
import pwd
import select
import signal
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from qorch_net.errors import NetError
from qorch_net.plan import Mark, find_mark

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection, Iterator

VARIABLE: Final = "QORCH_OWNER"
CAP_NET_ADMIN: Final = 12  # linux/capability.h
CAP_SYS_PTRACE: Final = 19
_PROC: Final = Path("/proc")
_PIECE: Final = 1 << 16
_SECONDS: Final = 3  # to end after SIGTERM, and again after SIGKILL


@attrs.frozen(kw_only=True)
class Process:
    """A marked process. `here`: it lives in the calling thread's network namespace."""

    pid: int
    parent: int
    mark: Mark
    here: bool


def has_capability(number: int) -> bool:
    """Whether the calling thread has this capability in its user namespace."""
    status = Path("/proc/thread-self/status").read_text()
    effective = status.partition("CapEff:")[2].split(maxsplit=1)[0]
    return bool(int(effective, 16) >> number & 1)


@attrs.define(eq=False)
class Search:
    """Looks for an owner's processes among all those that it has not seen yet.

    A number is not given to another process before all others have been.
    """

    owner: str
    _seen: set[int] = attrs.field(factory=set, init=False)

    def find_new(self) -> tuple[Process, ...]:
        """Find those that carry a mark of the owner, whoever started them.

        Looks until nothing new appears: a dnsmasq that becomes a daemon forks, and its child must
        not be missed because it was born behind our back while its parent died before our eyes.
        """
        namespace = Path("/proc/thread-self/ns/net").stat().st_ino
        found = []
        while new := _list_processes() - self._seen:
            self._seen |= new
            for pid in new:
                with suppress(OSError):  # it ended, or it is not ours to look at
                    mark = _find_mark(pid, self.owner)
                    if mark and (process := _look(pid, mark, namespace)):
                        found.append(process)
        return tuple(found)


def find_processes(owner: str) -> tuple[Process, ...]:
    """Every process that carries a mark of this owner."""
    return Search(owner).find_new()


def stop_processes(
    mark: Mark, known: Collection[Process] | None = None, search: Search | None = None
) -> None:
    """End every process with this mark: SIGTERM, SIGKILL after 3 s. Raises NetError if one stays.

    Looks again after that, for what one of them started while it was being ended. `known` is what
    `search` has just found.
    """
    search = search or Search(mark.owner)
    found = search.find_new() if known is None else known
    for _ in range(8):
        mine = [process.pid for process in found if process.mark == mark]
        if not mine:
            return
        for pid in mine:
            _stop(pid, mark)
        found = search.find_new()
    raise NetError(f"processes of {mark} keep coming back")


@contextmanager
def stopping(mark: Mark, known: Collection[Process], search: Search) -> Iterator[None]:
    """End these processes of the mark while the caller does something else; wait on leaving.

    They are what `search` has just found. It looks again after that.
    """
    with ExitStack() as stack:
        opened = {x.pid: stack.enter_context(_open_process(x.pid, mark)) for x in known}
        for process in opened.values():
            _send(process, signal.SIGTERM)
        yield
        for pid, process in opened.items():
            _wait_stopped(pid, process, mark)
    if known:
        stop_processes(mark, search=search)


def send_signal(pid: int, mark: Mark, number: signal.Signals) -> None:
    """Send a signal to the process if it still is the one with this mark."""
    with _open_process(pid, mark) as process:
        _send(process, number)


def wait_exiting(program: str) -> None:
    """Wait for processes of this program that have given up their memory, but not yet all else."""
    for pid in _list_processes():
        with suppress(OSError):
            name = (_PROC / str(pid) / "comm").read_text().rstrip("\n")
            if name == program[:15] and not _has_memory(pid):
                _wait_end(pid)


def _has_memory(pid: int) -> bool:
    try:
        return bool((_PROC / str(pid) / "environ").read_bytes())
    except ProcessLookupError:  # what newer kernels say instead of nothing
        return False


def _wait_end(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        _has_ended(process, _SECONDS)
    finally:
        os.close(process)


def wait_process(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a child, without polling; kill it and say False if it does not end in time."""
    pidfd = os.pidfd_open(process.pid)
    try:
        ended = _has_ended(pidfd, seconds)
    finally:
        os.close(pidfd)
        if process.poll() is None:
            process.kill()
        process.wait()
    return ended


def _list_processes() -> set[int]:
    return {int(name) for name in os.listdir(_PROC) if name.isdecimal()}  # noqa: PTH208


def _stop(pid: int, mark: Mark) -> None:
    with _open_process(pid, mark) as process:
        _send(process, signal.SIGTERM)
        _wait_stopped(pid, process, mark)


def _send(process: int | None, number: signal.Signals) -> None:
    if process is not None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)


def _wait_stopped(pid: int, process: int | None, mark: Mark) -> None:
    """Wait for the end of a process that was told to end, and see to it."""
    if process is None:
        return
    if not _has_ended(process, _SECONDS):
        _send(process, signal.SIGKILL)
        if not _has_ended(process, _SECONDS):
            hint = "it hangs in the kernel: see dmesg"
            raise NetError(f"process {pid} ({mark}) does not end", hint)
    _reap(process)


def _has_ended(process: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _reap(process: int) -> None:
    # A daemon is ours to wait for only where this process is its subreaper, or PID 1.
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOHANG)


@contextmanager
def _open_process(pid: int, mark: Mark) -> Iterator[int | None]:
    """Open a pidfd; None if the process is gone, also if its pid has another owner by now."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield process if _is_marked(pid, mark) else None
    finally:
        os.close(process)


def _is_marked(pid: int, mark: Mark) -> bool:
    try:
        return _find_mark(pid, mark.owner) == mark
    except (FileNotFoundError, ProcessLookupError):
        return False


def _find_mark(pid: int, owner: str) -> Mark | None:
    environment = b"\0" + _read_environment(pid)
    _, found, rest = environment.partition(f"\0{VARIABLE}={owner}:".encode())
    label = rest.partition(b"\0")[0].decode(errors="replace")
    return find_mark(f"qorch:{owner}:{label}") if found else None


def _read_environment(pid: int) -> bytes:
    """Read it the quick way: this is done for every process."""
    file = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, _PIECE):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


def _look(pid: int, mark: Mark, namespace: int) -> Process | None:
    status = dict(x.split(":\t", 1) for x in (_PROC / str(pid) / "status").read_text().splitlines())
    if int(status["Uid"].split()[0]) not in {os.geteuid(), _find_nobody()}:
        return None  # somebody else wrote our mark into the environment
    here = (_PROC / str(pid) / "ns/net").stat().st_ino == namespace
    return Process(pid=pid, parent=int(status["PPid"]), mark=mark, here=here)


def _find_nobody() -> int | None:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return None
