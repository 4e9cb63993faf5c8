import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import uuid

import attrs
import pytest
import trio

from qorch.errors import MachineError
from qorch.process import MARK, Process, find_processes, start_process


@pytest.fixture
def prefix():
    """A mark that no other test has."""
    return f"{uuid.uuid4().hex[:8]}:"


@contextlib.contextmanager
def start(code, mark, *, fds=(), env=None):
    """Run Python code, wait for its first line; it and its output's reading end."""
    reading, writing = os.pipe()
    try:
        process = start_process(
            [sys.executable, "-Ic", code], mark=mark, fds=fds, output=writing, env=env or {}
        )
    finally:
        os.close(writing)
    with contextlib.closing(process), os.fdopen(reading, "rb") as output:
        try:
            yield process, output
        finally:
            process.send_signal(signal.SIGKILL)
            process._child.wait()


WAIT = "import signal; print('up', flush=True); signal.pause()"


async def test_a_process_is_found_by_its_mark(prefix):
    """By the beginning of it, as long as it runs, with the pid it has."""
    with start(WAIT, f"{prefix}vm/web") as (process, output):
        assert output.readline() == b"up\n"
        found = list(find_processes(prefix))
        assert [(rest, other.pid) for rest, other in found] == [("vm/web", process.pid)]
        assert found[0][1].started == process.started
        assert list(find_processes(f"{prefix}vm/other")) == []
        for _, other in found:
            other.close()
    assert list(find_processes(prefix)) == []


def test_a_zombie_is_not_found(prefix):
    """A process that has ended and that nobody has waited for yet does not run."""
    with start("print('up')", f"{prefix}vm/web") as (process, output):
        assert output.read() == b"up\n"
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not process.is_alive
        assert list(find_processes(prefix)) == []


async def test_the_end_of_a_child_is_noticed_with_its_status(prefix):
    """As Popen has it: the exit status, or the signal below zero."""
    with start("raise SystemExit(3)", prefix) as (process, _), trio.fail_after(60):
        assert await process.wait() == 3
        assert await process.wait() == 3
    with start(WAIT, prefix) as (process, output), trio.fail_after(60):
        output.readline()
        assert process.is_alive
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        assert not process.is_alive
        process.send_signal(signal.SIGTERM)  # nobody minds


async def test_the_end_of_a_process_that_is_no_child_is_noticed(prefix):
    """What a supervisor before us started: its pidfd tells, its status nobody knows."""
    code = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-Ic", {WAIT!r}], stdout=1)
"""
    with start(code, f"{prefix}vm/web") as (parent, output), trio.fail_after(60):
        await parent.wait()
        assert output.readline() == b"up\n"
        ((rest, process),) = find_processes(prefix)
        with contextlib.closing(process):
            assert rest == "vm/web"
            async with trio.open_nursery() as nursery:
                statuses = []

                async def wait():
                    statuses.append(await process.wait())

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                process.send_signal(signal.SIGKILL)
            assert statuses == [None]
            assert not process.is_alive


def test_a_process_has_its_own_session_its_fds_and_no_more(prefix, tmp_path):
    """No terminal's signals, no descriptor but those given, the environment given and the mark."""
    code = """
import os
fds = [int(name) for name in os.listdir("/proc/self/fd")]
fds = [fd for fd in fds if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]
print(os.getsid(0) == os.getpid(), os.getcwd(), fds)
print(sorted(set(os.environ) - {"LC_CTYPE"}))
"""
    with (tmp_path / "other").open("w") as other, (tmp_path / "given").open("w") as given:
        os.set_inheritable(other.fileno(), True)
        with start(code, prefix, fds=[given.fileno()], env={"A": "b"}) as (_, output):
            first, second = output.read().decode().splitlines()
        number = given.fileno()
    assert first == f"True / [{number}]"
    assert second == str(["A", MARK])


def test_a_program_that_is_not_there_is_named():
    """An error with the program and the reason."""
    with pytest.raises(MachineError, match=r"/no/qemu does not run: No such file or directory"):
        start_process(["/no/qemu"], mark="x", fds=(), output=subprocess.DEVNULL, env={})


def test_there_is_no_process_of_a_pid_that_is_gone(prefix):
    """Asking for one is an error, and leaves no descriptor."""
    with start("", prefix) as (process, _):
        process._child.wait()
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        Process.from_pid(pid)


def test_a_thread_is_pinned(prefix):
    """And says so; a thread that is gone has no affinity."""
    with start(WAIT, prefix) as (process, output):
        output.readline()
        cpu = min(os.sched_getaffinity(0))
        process.set_affinity(process.pid, {cpu})
        assert process.find_affinity(process.pid) == [cpu]
        assert process.uptime >= 0
        pid = process.pid
    assert process.find_affinity(pid) == []


async def test_numbers_of_files_may_be_large(prefix):
    """A supervisor of many machines has more than 1024 files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with start(WAIT, prefix) as (process, output), trio.fail_after(60):
            output.readline()
            large = fcntl.fcntl(process.pidfd, fcntl.F_DUPFD_CLOEXEC, 2000)
            with contextlib.closing(attrs.evolve(process, pidfd=large)) as same:
                assert same.is_alive
                same.send_signal(signal.SIGKILL)
                await same.wait()
                assert not same.is_alive
                same.wait_nowait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
