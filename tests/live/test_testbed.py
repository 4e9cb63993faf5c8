"""scripts/testbed: what it returns, and that it leaves nothing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("testbed")]

ROOT = Path(__file__).parents[2]
DEADLINE = 300.0  # seconds; a VM is up in 3 on a quiet machine


# -- what it returns -------------------------------------------------------------------------------


def run_testbed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end; a VM that hangs shows its console."""
    return subprocess.run(
        [ROOT / "scripts" / "testbed", "--timeout", str(DEADLINE - 30), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "tests",
        timeout=DEADLINE,
    )


def test_a_command_is_as_if_run_here(tmp_path: Path) -> None:
    """Both outputs, exit status, directory, environment, a writable directory, a disk."""
    script = f"""
        pwd; echo "$COLOUR"; id -u; wc -c </dev/vda; uname -r; cat {tmp_path}/there; sleep 1000 &
        echo complaint >&2; echo new >{tmp_path}/new; touch {ROOT}/not-here && exit 7
    """
    (tmp_path / "there").write_text("there\n")
    done = run_testbed(
        *("--env", "COLOUR=deep blue", "--rw", tmp_path, "--disk", "16MiB", "--timeout", "200"),
        *("--", "sh", "-c", script),
    )
    assert done.returncode == 7, done.stderr
    directory, colour, uid, size, kernel, there = done.stdout.splitlines()
    assert (directory, colour, uid) == (str(ROOT / "tests"), "deep blue", "0")
    assert (size, there) == (str(16 << 20), "there")
    assert kernel != os.uname().release
    assert done.stderr == "complaint\n"
    assert (tmp_path / "new").read_text() == "new\n"
    assert not (ROOT / "not-here").exists()


def test_output_is_bytes() -> None:
    """Megabytes of any bytes come out as they are, on either output, and are all there."""
    done = subprocess.run(
        [
            *(ROOT / "scripts" / "testbed", "--", "/bin/sh", "-c"),
            f"head -c 8000000 {sys.executable} | tee /dev/stderr; cat {sys.executable}",
        ],
        capture_output=True,
        check=True,
        timeout=DEADLINE,
    )
    program = Path(sys.executable).read_bytes()
    assert done.stdout == program[:8000000] + program
    assert done.stderr == program[:8000000]


def test_a_dead_vm_says_125() -> None:
    """A VM that ends without the command's status is 125, with the end of its console."""
    done = run_testbed("--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000")
    assert done.returncode == 125, done.stderr
    assert "Kernel panic" in done.stderr


def test_a_timeout_says_124() -> None:
    """A command that takes too long is ended with its VM, and that is 124."""
    done = run_testbed("--timeout", "1", "--", "sleep", "1000")
    assert done.returncode == 124
    assert "not done after 1 s" in done.stderr


def test_a_command_that_is_not_there_says_127() -> None:
    """It is as with any shell."""
    done = run_testbed("--", "no-such-command")
    assert done.returncode == 127, done.stderr
    assert "no-such-command" in done.stderr


# -- what is left ----------------------------------------------------------------------------------


@contextmanager
def open_running() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A VM that runs, and a pidfd of the first process of its namespace; both end."""
    with subprocess.Popen(
        [ROOT / "scripts" / "testbed", "--", "sh", "-c", "echo running; sleep 1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        (child,) = map(int, children.split())
        inside = os.pidfd_open(child)
        try:
            yield process, inside
        finally:
            process.kill()
            os.close(inside)


def find_interfaces() -> set[str]:
    """The network interfaces."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def assert_nothing_left(inside: int, testbed: Path) -> None:
    """All processes of the namespace end with its first one, and its mounts with them."""
    assert select.select([inside], [], [], DEADLINE)[0]
    assert list((testbed / "run").iterdir()) == []
    assert "testbed" not in Path("/proc/self/mountinfo").read_text().split()


def test_kill_9_leaves_nothing(testbed: Path) -> None:
    """`kill -9` ends the VM, too; its files and interfaces are gone."""
    before = find_interfaces()
    with open_running() as (process, inside):
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(DEADLINE) == -signal.SIGKILL
        assert_nothing_left(inside, testbed)
    assert find_interfaces() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(testbed: Path, number: signal.Signals) -> None:
    """Ctrl-C, which the whole process group feels, and SIGTERM end it with 128 + N."""
    before = find_interfaces()
    with open_running() as (process, inside):
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(DEADLINE) == 128 + number
        assert_nothing_left(inside, testbed)
    assert find_interfaces() == before
