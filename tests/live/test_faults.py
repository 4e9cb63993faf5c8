"""Whatever fails or dies at whichever step: nothing is left that nobody owns, and a retry works."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qorch.testing import Host

pytestmark = pytest.mark.live

DOCUMENT = """
[network.lan]
subnet = "192.168.133.0/24"

[vm.web]
memory = "64MiB"
accel = "tcg"
powerdown_timeout = "100ms"
cloud_init = {{ hostname = "web" }}
tpm = "2.0"
firmware = "uefi"

[[vm.web.disk]]
backing = "{disk}"
backing_format = "raw"

[[vm.web.nic]]
network = "lan"

[[vm.web.share]]
path = "{share}"
tag = "data"
"""
LEAST_STEPS = 20


@pytest.fixture
def document(bios: Path, tmp_path: Path) -> Path:
    """A machine with an overlay, a seed, a network, variables and helpers: steps of each kind."""
    path = tmp_path / "vm.toml"
    path.write_text(DOCUMENT.format(disk=bios / "disk.img", share=tmp_path))
    return path


@contextmanager
def embedded(
    host: Host, document: Path, how: str
) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """A supervisor treated so; what is yielded lets it go on and returns what it tells next."""
    script = Path(__file__).with_name("embedded.py")
    inside = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{host.namespace}")
    command = (*inside, sys.executable, script, host.directory, document, how)
    with subprocess.Popen(list(map(str, command)), stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout, waits = process.stdin, process.stdout, False

        def go_on() -> str:
            nonlocal waits
            if waits:
                stdin.write("\n")
                stdin.flush()
            waits = bool(line := stdout.readline())
            return line.strip()

        yield process, go_on


def find_left(host: Host) -> list[str]:
    """What nobody should have left: on the host, in the default pool, of definitions."""
    data = host.state.data
    owned = [*data.glob("vm/*"), *data.glob("network/*")]
    return [*host.find_leftovers(), *volumes(host), *map(str, owned)]


def volumes(host: Host) -> list[str]:
    """What lies in the default pool."""
    pool = host.state.default_pool
    return sorted(path.name for path in pool.iterdir()) if pool.is_dir() else []


def forget_pool(host: Host) -> None:
    """Make the next `up` begin as the first one did: the pool's directory stays after `down`."""
    if host.state.default_pool.is_dir():
        host.state.default_pool.rmdir()


@pytest.mark.parametrize("how", ["fail", "cancel", "leave"])
def test_undone_at_any_step_of_up(qorch_host: Host, document: Path, how: str) -> None:
    """Each step of `up` fails, or is cancelled, alone or with its supervisor: all is as before."""
    kinds = set()
    with embedded(qorch_host, document, how) as (process, go_on):
        while step := go_on():
            kinds.add(step.split()[1])
            assert (step, find_left(qorch_host)) == (step, [])
            forget_pool(qorch_host)
    assert process.returncode == 0
    assert {"network", "vm"} <= kinds
    assert find_left(qorch_host) == []


def test_killed_at_any_step(qorch_host: Host, document: Path) -> None:
    """`kill -9` at each step of `up` and of `down`: the next supervisor ends what was begun."""
    expected = itertools.cycle(("there:", "there: running"))  # after `down`, after `up`
    count = 0
    with embedded(qorch_host, document, "kill") as (process, go_on):
        while told := go_on():
            count += 1
            assert (count, told) == (count, next(expected))
            if told == "there:":
                assert (count, find_left(qorch_host)) == (count, [])
                forget_pool(qorch_host)
    assert process.returncode == 0
    assert count > 2 * LEAST_STEPS
    assert find_left(qorch_host) == []
