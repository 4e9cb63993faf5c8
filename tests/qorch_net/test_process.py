"""Processes found by their mark, and what the kernel says of those that are ending."""

import os
import subprocess

import pytest

from qorch_net.plan import Mark
from qorch_net.process import VARIABLE, find_processes, stop_processes, wait_exiting

pytestmark = pytest.mark.live
MARK = Mark("0badcafe", "network/lan")


def start(*words):
    """Start a marked process."""
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env={VARIABLE: str(MARK)}, stdin=pipe, stdout=pipe)


def test_marked_process_is_found_and_stopped():
    """A process is found by its environment and ended; one of another network is not."""
    process, other = start("sleep", "60"), subprocess.Popen(["sleep", "60"])
    (found,) = find_processes(MARK.owner)
    assert (found.pid, found.parent, found.here) == (process.pid, os.getpid(), True)
    stop_processes(Mark(MARK.owner, "network/dmz"))
    assert process.poll() is None
    stop_processes(MARK)
    assert find_processes(MARK.owner) == ()
    assert other.poll() is None
    for child in (process, other):
        child.kill()
        child.communicate()


def test_process_that_ignores_sigterm_is_killed(monkeypatch):
    """SIGKILL follows when SIGTERM is not heard."""
    monkeypatch.setattr("qorch_net.process._SECONDS", 0.1)
    process = start("sh", "-c", "trap '' TERM; echo; read line")
    process.stdout.readline()
    stop_processes(MARK)
    assert find_processes(MARK.owner) == ()
    process.stdout.close()
    process.wait()


def test_ended_process_keeps_nobody_waiting():
    """A zombie has given up all: waiting for it returns at once, and it carries no mark."""
    process = start("cat")
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    wait_exiting("cat")
    assert find_processes(MARK.owner) == ()
    process.stdout.close()
    process.wait()
