"""Supervisors that die at steps of work on disks, as a test has them; see embedded_lives.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from qorch.testing import Host

SCRIPT = Path(__file__).parents[1] / "live" / "embedded_lives.py"


@attrs.define(eq=False)
class Lives:
    """The supervisor that lives now, and those after it."""

    _process: subprocess.Popen[str]

    def ask(self, do: str, **request: Any) -> Any:
        """Have it do something; what it answers, or at what step somebody died."""
        self._say({"do": do, **request})
        return self.hear()

    def _say(self, request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "it has ended"
        return json.loads(line)

    def live_again(self, pid: int | None) -> None:
        """Wait until it has died, kill another one, too, and have the next one take over."""
        assert self.hear() == {"dead": True}
        if pid is not None:
            with suppress(ProcessLookupError):  # it may have been ended already
                os.kill(pid, signal.SIGKILL)
        self._say("live")
        assert self.hear() == {"alive": True}

    def look(self) -> Any:
        """What it knows of the machine."""
        return self.ask("look")["answer"]


@contextmanager
def open_lives(host: Host, machine: str) -> Iterator[Lives]:
    """Have supervisors that can die in the place of the host's own."""
    host.kill_supervisor()
    command = [sys.executable, SCRIPT, host.directory, machine]
    with host.inside():
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with process:
        lives = Lives(process)
        assert lives.hear() == {"alive": True}
        yield lives


@attrs.frozen(kw_only=True)
class Work:
    """Work on disks that is begun again and again, each time after `prepare`."""

    method: str
    words: Callable[[], list[str]] = list
    options: dict[str, Any] = attrs.field(factory=dict)
    prepare: Callable[[], None] = lambda: None


def die_at_each_step(lives: Lives, work: Work, who: str, check: Callable[[], None]) -> list[str]:
    """Do it with a death at each of its steps, until it lives to its end; the steps.

    `who` dies is the `supervisor`, `both` it and QEMU, or `qemu` alone.
    """
    seen: list[str] = []
    while True:
        work.prepare()
        pid = lives.look()["pid"]
        heard = lives.ask(
            "work",
            method=work.method,
            words=work.words(),
            options=work.options,
            seen=seen,
            who="qemu" if who == "qemu" else "supervisor",
        )
        if "died" not in heard:
            assert heard["answer"] is None
            check()
            return seen
        seen.append(heard["died"])
        if who == "qemu":
            lives.hear()  # how it ended
        else:
            lives.live_again(pid if who == "both" else None)
        check()
