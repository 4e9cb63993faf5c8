"""Helper processes: started before QEMU, ready when they answer, found again by their mark.

Blocking, as all that leads to QEMU. They have a session of their own, as QEMU has, and outlive the
supervisor; they end by themselves when QEMU does, and are ended with it in any case.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import attrs
import trio

from qorch.console import read_tail
from qorch.errors import MachineError
from qorch.helper import Helper, Wire, make_helpers, make_mark
from qorch.plan import MachinePlan
from qorch.process import Process, find_processes, is_readable, start_process
from qorch.units import Name

_READY_DEADLINE = 60.0  # seconds; it is a matter of milliseconds on a quiet host
_GRACE = 2.0  # seconds to end after SIGTERM


@attrs.frozen(kw_only=True)
class Running:
    """A helper that runs, and our end of the connection, for QEMU to inherit."""

    process: Process
    connection: socket.socket


def start_helpers(
    plan: MachinePlan,
    *,
    data: Path,
    env: Mapping[str, str],
    report: Callable[[str], None],
    undo: ExitStack,
) -> dict[str, Running]:
    """Start the helpers of a machine; undone, they are ended.

    The connections are the caller's to close. Raises MachineError with a helper's last words.
    """
    started: dict[str, Running] = {}
    for helper in make_helpers(plan):
        report(f"start helper {helper.id}")
        if helper.directory is not None:
            helper.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = data / f"{helper.id}.log"
        running = _start(helper, make_mark(plan, helper.id), log, env)
        started[helper.id] = running
        undo.callback(_end_now, running)
        _wait_answer(helper, running, log)
    return started


def _start(helper: Helper, mark: str, log: Path, env: Mapping[str, str]) -> Running:
    with ExitStack() as stack:
        theirs, ours = _connect(helper, stack)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, output)
        fd = theirs.fileno()
        process = start_process(helper.args(fd), mark=mark, fds=(fd,), output=output, env=env)
        return Running(process=process, connection=ours.dup())


def _connect(helper: Helper, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Both ends; who listens has one in its backlog already. No path is left behind."""
    if helper.wire is Wire.CONNECTED:
        theirs, ours = socket.socketpair()
        return stack.enter_context(theirs), stack.enter_context(ours)
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="qorch-"))
    listener.bind(f"{directory}/s")
    listener.listen(1)
    ours = stack.enter_context(socket.socket(socket.AF_UNIX))
    ours.connect(f"{directory}/s")
    return listener, ours


def _wait_answer(helper: Helper, running: Running, log: Path) -> None:
    """Have the helper answer a question, which leaves nothing behind."""
    connection, deadline = running.connection, time.monotonic() + _READY_DEADLINE
    answer = b""
    try:
        connection.sendall(helper.question)
        while len(answer) < helper.answer:
            left = max(0.0, deadline - time.monotonic())
            if not is_readable(connection.fileno(), left):
                raise MachineError(f"helper {helper.id} does not answer", _last_words(log))
            data = connection.recv(helper.answer - len(answer))
            if not data:
                raise ConnectionResetError
            answer += data
    except ConnectionError:
        words = _last_words(log) or "without a word"
        raise MachineError(f"helper {helper.id} ended: {words}") from None


def _last_words(log: Path) -> str | None:
    return read_tail(log, lines=3) or None


def _end_now(running: Running) -> None:
    running.connection.close()
    running.process.send_signal(signal.SIGKILL)
    running.process.wait_nowait()
    running.process.close()


def find_helpers(owner: str) -> Iterator[tuple[Name, str, Process]]:
    """The helpers that run, by machine and id. The caller closes the processes."""
    for mark, process in find_processes(f"{owner}:helper/"):
        name, _, id_ = mark.partition("/")
        yield Name(name), id_, process


async def end_helper(process: Process) -> None:
    """End a helper that has not ended with its machine by itself."""
    with trio.CancelScope(shield=True):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with trio.move_on_after(_GRACE):
                if process.is_alive:
                    process.send_signal(number)
                await process.wait()
                break
        process.close()
