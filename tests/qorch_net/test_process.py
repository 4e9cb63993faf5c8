"""Processes found by their mark, and what the kernel says of those that are ending."""

import os
import subprocess
from contextlib import contextmanager

import pytest

from qorch_net.plan import Mark
from qorch_net.process import VARIABLE, find_processes, stop_processes, wait_exiting

pytestmark = pytest.mark.live
MARK = Mark("0badcafe", "network/lan")


@contextmanager
def start(*words):
    """Run a marked process; whatever is left of it is cleared away."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env={VARIABLE: str(MARK)}, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def test_marked_process_is_found_and_stopped():
    """A process is found by its environment and ended; one of another network is not."""
    with start("cat") as process:
        (found,) = find_processes(MARK.owner)
        assert (found.pid, found.parent, found.here) == (process.pid, os.getpid(), True)
        stop_processes(Mark(MARK.owner, "network/dmz"))
        assert process.poll() is None
        stop_processes(MARK)
        assert find_processes(MARK.owner) == ()


def test_process_that_ignores_sigterm_is_killed(monkeypatch):
    """SIGKILL follows when SIGTERM is not heard."""
    monkeypatch.setattr("qorch_net.process._SECONDS", 0.1)
    with start("sh", "-c", "trap '' TERM; echo; read line") as process:
        process.stdout.readline()
        stop_processes(MARK)
        assert find_processes(MARK.owner) == ()


def test_ended_process_keeps_nobody_waiting():
    """A zombie has given up all: waiting for it returns at once, and it carries no mark."""
    with start("cat") as process:
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wait_exiting("cat")
        assert find_processes(MARK.owner) == ()
