"""Whatever fails or dies at whichever step: nothing is left that nobody owns, and a retry works."""

from __future__ import annotations

import os
import subprocess
import sys
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
powerdown_timeout = "1s"
cloud_init = {{ hostname = "web" }}
{helped}

[[vm.web.disk]]
backing = "{disk}"
backing_format = "raw"

[[vm.web.nic]]
network = "lan"
"""


HELPED = """
tpm = "2.0"
firmware = "uefi"

[[vm.web.share]]
path = "{share}"
tag = "data"
"""


@pytest.fixture
def document(bios: Path, tmp_path: Path) -> Path:
    """A machine with an overlay, a seed and a network."""
    path = tmp_path / "vm.toml"
    path.write_text(DOCUMENT.format(disk=bios / "disk.img", helped=""))
    return path


@pytest.fixture
def helped(bios: Path, tmp_path: Path) -> Path:
    """The same with variables and helpers: a step of each kind."""
    path = tmp_path / "helped.toml"
    text = HELPED.format(share=tmp_path)
    path.write_text(DOCUMENT.format(disk=bios / "disk.img", helped=text))
    return path


def do(host: Host, document: Path, verb: str, how: str, number: int) -> tuple[int, list[str]]:
    """The exit status of a supervisor treated so, and the steps it came to."""
    script = Path(__file__).with_name("embedded.py")
    done: subprocess.CompletedProcess[str] = host.run(
        sys.executable, script, host.directory, document, verb, how, number, check=False
    )
    assert how != "list" or done.returncode == 0, done.stderr
    return done.returncode, done.stdout.splitlines()


def volumes(host: Host) -> list[str]:
    """What lies in the default pool."""
    pool = host.state.default_pool
    return sorted(path.name for path in pool.iterdir()) if pool.is_dir() else []


def forget_pool(host: Host) -> None:
    """Make the next `up` begin as the first one did: the pool's directory stays after `down`."""
    if host.state.default_pool.is_dir():
        host.state.default_pool.rmdir()


@pytest.mark.parametrize("how", ["fail", "cancel", "leave"])
def test_undone_at_any_step_of_up(qorch_host: Host, helped: Path, how: str) -> None:
    """Each step of `up` fails, or is cancelled, alone or with its supervisor: all is as before."""
    script = Path(__file__).with_name("embedded.py")
    words = (sys.executable, script, qorch_host.directory, helped, "up", how)
    inside = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{qorch_host.namespace}")
    steps = []
    with subprocess.Popen([*inside, *words], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            step = line.strip()
            steps.append(step)
            assert (step, qorch_host.find_leftovers()) == (step, [])
            assert (step, volumes(qorch_host)) == (step, [])
            owned = [*qorch_host.state.data.glob("vm/*"), *qorch_host.state.data.glob("network/*")]
            assert (step, owned) == (step, [])
            forget_pool(qorch_host)
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0
    assert {"network", "vm"} <= {step.split()[1] for step in steps}
    assert qorch_host.find_leftovers() == []


@pytest.mark.parametrize("verb", ["up", "down"])
def test_killed_at_any_step(qorch_host: Host, document: Path, verb: str) -> None:
    """`kill -9` at each step in turn: the next supervisor tidies up, and a retry works."""
    text = document.read_text()
    do(qorch_host, document, "up", "list", 0)
    _, down = do(qorch_host, document, "down", "list", 0)
    _, up = do(qorch_host, document, "up", "list", 0)
    do(qorch_host, document, "down", "list", 0)
    for number in range(1, len(up if verb == "up" else down) + 1):
        if verb == "down":
            do(qorch_host, document, "up", "list", 0)
        status, _ = do(qorch_host, document, verb, "kill", number)
        assert status == -9
        if verb == "up":
            qorch_host.up(text, wait=None)
            assert qorch_host.machine("web").show()["state"] == "running"
        qorch_host.down(text)
        assert qorch_host.client.find_machines() == []
        assert (number, qorch_host.find_leftovers()) == (number, [])
        assert volumes(qorch_host) == []
        qorch_host.kill_supervisor()
