"""The serial console from the command line: several watchers, typed on by each."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
"""


@contextmanager
def run(host: Host, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command line, with pipes."""
    command = [sys.executable, "-m", "qorch", "--state-dir", str(host.directory), *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_consoles_and_a_log(qorch_host: Host, bios_disk: Path) -> None:
    """What one types, all see; consoles end with the machine, `log -f` with Ctrl-C."""
    qorch_host.up(DOCUMENT.format(disk=bios_disk))
    with (
        run(qorch_host, "log", "-f", "web") as log,
        run(qorch_host, "console", "web") as one,
        run(qorch_host, "console", "web") as two,
    ):
        assert any(line.startswith("GUEST-UP") for line in log.stdout)
        one.stdin.write("p")
        one.stdin.flush()
        for process in (one, log):
            assert any(line.startswith("GUEST-STATUS") for line in process.stdout)
        two.stdin.write("p")
        two.stdin.flush()
        assert any(line.startswith("GUEST-STATUS") for line in two.stdout)
        qorch_host.client.kill_machine("web", report=lambda _line: None)
        assert [process.wait(30) for process in (one, two)] == [0, 0]
        log.send_signal(signal.SIGINT)
        assert log.wait(30) == 130
