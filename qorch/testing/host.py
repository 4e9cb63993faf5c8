"""A host of its own for a test: network namespace, state directory, supervisor.

What a test makes on it is taken down after the test, and it is an error if anything remains.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from qorch.api import rendezvous
from qorch.client import Client, ClientError, Document
from qorch.paths import StateDir
from qorch.process import find_processes
from qorch.testing.namespace import enter_namespace, open_namespace

BOOT_DEADLINE = 180.0  # seconds; a guest under TCG on a busy machine takes its time
_END_DEADLINE = 30.0


class Leftovers(AssertionError):  # noqa: N818  it is what an assertion says
    """Something was left on the host after everything was taken down."""


@attrs.define(eq=False)
class TestMachine:
    """A machine on a test's host."""

    __test__ = False  # for pytest, which collects what begins so

    host: Host
    name: str

    @property
    def ip(self) -> str:
        """Its first address."""
        return str(self.show()["ips"][0])

    def show(self) -> dict[str, Any]:
        """What `qorch show --json` says."""
        return self.host.client.show_machine(self.name)

    @property
    def console_log(self) -> str:
        """What its serial console printed since power-on."""
        path = self.host.state.machine_data(self.name) / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_console(self, pattern: str, *, seconds: float = BOOT_DEADLINE) -> re.Match[str]:
        """Wait for a line on the console, from power-on; AssertionError if it ends first."""
        found = re.search(pattern, self.console_log, re.MULTILINE)
        if found:
            return found
        client = Client(self.host.state, start=False, seconds=seconds)
        with client, client.open_log(self.name, lines=10**6, follow=True) as chunks:
            text = ""
            for chunk in chunks:
                text += chunk.decode(errors="replace")
                if found := re.search(pattern, text, re.MULTILINE):
                    return found
        raise AssertionError(f"{self.name} never printed {pattern!r}:\n{text[-2000:]}")

    def type(self, text: str) -> None:
        """Type on its serial console."""
        with self.host.client.open_console(self.name) as console:
            console.send(text.encode())

    def fetch(self, path: str = "/", *, port: int = 80) -> str:
        """Get a page that it serves."""
        with self.host.inside():
            url = f"http://{self.ip}:{port}{path}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                body: bytes = answer.read()
        return body.decode()


@attrs.define(eq=False)
class Host:
    """A network namespace, a state directory and the supervisor in it, started when needed."""

    namespace: int
    directory: Path
    client: Client
    state: StateDir

    def up(self, text: str, *, wait: float | None = BOOT_DEADLINE, restart: bool = False) -> None:
        """Bring a document up, given as text; relative paths start at the current directory.

        Raises ClientError.
        """
        self.client.up(self._document(text), wait=wait, restart=restart, report=_ignore)

    def down(self, text: str, *, volumes: bool = True) -> None:
        """Take a document down."""
        self.client.down(self._document(text), volumes=volumes, report=_ignore)

    def plan(self, text: str) -> list[dict[str, Any]]:
        """What `up` would do."""
        return self.client.plan(self._document(text))

    @staticmethod
    def _document(text: str) -> Document:
        return Document(text=textwrap.dedent(text), directory=str(Path.cwd()))

    def machine(self, name: str) -> TestMachine:
        """A machine of this host."""
        return TestMachine(self, name)

    def inside(self) -> Any:
        """A block in which this thread is in the host's network namespace."""
        return enter_namespace(self.namespace)

    def run(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the host's network namespace."""
        command = (*_enter(self.namespace), *map(str, words))
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=300)

    def qorch(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command line on this host."""
        command = (*rendezvous.COMMAND, "--state-dir", self.directory)
        return self.run(*command, *words, check=False)

    def kill_supervisor(self) -> None:
        """`kill -9` the supervisor and wait until it is gone."""
        _end(self.client.find_supervisor()["pid"], signal.SIGKILL)
        self.client.close()

    def find_leftovers(self) -> list[str]:
        """Interfaces but `lo`, nft tables of ours, processes with our mark, run files."""
        with self.inside():
            links = [name for _, name in socket.if_nameindex() if name != "lo"]
            rules = subprocess.run(
                ["nft", "list", "tables"], capture_output=True, text=True, check=False
            ).stdout.splitlines()
        processes = [
            f"process {process.pid} {label}" for label, process in _find_marked(self.state.owner)
        ]
        run = self.state.run
        files = [str(path) for path in run.rglob("*") if path.is_file()] if run.exists() else []
        known = {self.state.api_socket, self.state.supervisor_lock, self.state.start_lock}
        return [*links, *rules, *processes, *(f for f in files if Path(f) not in known)]

    def find_logs(self) -> dict[str, str]:
        """What a failed test wants to see: serial logs, QMP transcripts, QEMU's and our words."""
        paths = [
            *self.state.data.glob("vm/*/console.log"),
            *self.state.data.glob("vm/*/qemu.log"),
            *self.directory.glob("*.qmp"),
            self.state.supervisor_log,
        ]
        return {
            str(path.relative_to(self.directory)): path.read_text(errors="replace")[-8000:]
            for path in paths
            if path.exists() and path.stat().st_size
        }

    def clear(self) -> None:
        """Take everything down but the supervisor. Raises Leftovers if that leaves anything."""
        self._remove_machines()
        if left := self.find_leftovers():
            raise Leftovers("left behind: " + ", ".join(left))

    def close(self) -> None:
        """Take everything down. Raises Leftovers if that leaves anything."""
        try:
            self.clear()
        finally:
            self._end_all()

    def _remove_machines(self) -> None:
        for machine in self.client.find_machines():
            self.client.kill_machine(machine["name"], report=_ignore)
            self.client.remove_machine(machine["name"], volumes=True, report=_ignore)
        networks = self.state.data / "network"
        names = [path.name for path in networks.iterdir()] if networks.is_dir() else []
        if names:  # a document that describes nothing is an error
            text = "".join(f"[network.{name}]\n" for name in names)
            self.client.down(self._document(text), report=_ignore)

    def _end_all(self) -> None:
        with suppress(ClientError):
            client = Client(self.state, start=False, seconds=5)
            _end(client.find_supervisor()["pid"], signal.SIGTERM)
            client.close()
        self.client.close()
        for _, process in _find_marked(self.state.owner):
            _end(process.pid, signal.SIGKILL)


def _ignore(_progress: dict[str, Any]) -> None:
    pass


def _enter(namespace: int) -> Sequence[str]:
    return "nsenter", f"--net=/proc/{os.getpid()}/fd/{namespace}"


def _find_marked(owner: str) -> list[tuple[str, Any]]:
    found = list(find_processes(f"{owner}:"))
    for _, process in found:
        process.close()
    return found


def _end(pid: int, number: signal.Signals) -> None:
    """Send a signal and wait until the process is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, number)
        deadline = time.monotonic() + _END_DEADLINE
        while not _has_ended(pidfd, deadline - time.monotonic()):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _has_ended(pidfd: int, seconds: float) -> bool:
    import select  # noqa: PLC0415

    return bool(select.select([pidfd], [], [], max(seconds, 1))[0])


@contextmanager
def open_host(directory: Path | None = None) -> Iterator[Host]:
    """A host; `directory` (a temporary one by default) is removed with it.

    Raises Leftovers at the end if something remained after everything was taken down.
    """
    directory = directory or Path(tempfile.mkdtemp(prefix="qorch-test-"))
    state = StateDir.from_directory(directory)
    with open_namespace() as namespace:
        command = (
            *_enter(namespace),
            "env",
            f"QORCH_QMP_LOG={directory}",
            *rendezvous.COMMAND,
        )
        host = Host(namespace, directory, Client(state, command=command), state)
        try:
            yield host
        finally:
            try:
                host.close()
            finally:
                shutil.rmtree(directory, ignore_errors=True)
