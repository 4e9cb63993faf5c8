"""`qorch up --foreground`: supervisor and document in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qorch.testing import Host

pytestmark = pytest.mark.live

DOCUMENT = """
[vm.web]
memory = "64MiB"
accel = "tcg"
ready = {{ console = "^GUEST-UP" }}

[[vm.web.disk]]
path = "{disk}"

[[vm.web.nic]]
"""


def start(host: Host, document: Path) -> subprocess.Popen[str]:
    """The process, as soon as its guest runs."""
    command = (sys.executable, "-m", "qorch", "--state-dir", host.directory)
    with host.inside():
        process = subprocess.Popen(
            [*command, "up", "--foreground", document], stderr=subprocess.PIPE, text=True
        )
    assert process.stderr is not None
    assert any(line == "vm web: run\n" for line in process.stderr)
    return process


@pytest.fixture
def document(bios_disk: Path, tmp_path: Path) -> Path:
    """A machine with a network."""
    path = tmp_path / "vm.toml"
    path.write_text(DOCUMENT.format(disk=bios_disk))
    return path


def test_sigterm_shuts_the_guests_down(qorch_host: Host, document: Path) -> None:
    """SIGTERM powers the guests down, takes the network down, and the process ends with 0."""
    with start(qorch_host, document) as process:
        web = qorch_host.machine("web")
        web.wait_console("^GUEST-UP")
        process.terminate()
        assert process.wait(60) == 0
    assert "GUEST-POWERDOWN" in web.console_log
    assert qorch_host.find_leftovers() == []


def test_it_ends_with_the_machines(qorch_host: Host, document: Path) -> None:
    """A guest that powers itself off ends the process."""
    with start(qorch_host, document) as process:
        web = qorch_host.machine("web")
        web.wait_console("^GUEST-UP")
        web.type("q")
        assert process.wait(60) == 0
    assert qorch_host.find_leftovers() == []


def test_a_second_supervisor_is_refused(qorch_host: Host, document: Path) -> None:
    """Where a supervisor runs, `--foreground` says so and changes nothing."""
    qorch_host.client.connect()
    done = qorch_host.qorch("up", "--foreground", document)
    assert done.returncode == 1
    assert "a supervisor runs already" in done.stderr
    assert qorch_host.client.find_machines() == []
