"""A peer in this process that says what a test tells it, a real QEMU, and the proof of no leak."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from pathlib import Path

import attrs
import pytest
import trio

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": []}}


@attrs.define(eq=False)
class Peer:
    """QEMU's side of a monitor's stream; `other` is the monitor's."""

    stream: trio.SocketStream
    other: trio.SocketStream
    _lines: bytes = b""

    async def say(self, *messages):
        """Send JSON objects, a line each."""
        await self.stream.send_all(b"".join(json.dumps(m).encode() + b"\r\n" for m in messages))

    async def happen(self, name, **data):
        """Send an event."""
        when = {"seconds": 1, "microseconds": 500_000}
        await self.say({"event": name, "data": data, "timestamp": when})

    async def hear(self):
        """Read one whole line and return its object."""
        while b"\n" not in self._lines:
            data = await self.stream.receive_some()
            assert data, "the monitor hung up"
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        return json.loads(line)

    async def greet(self, answer=None):
        """Do QEMU's part of the negotiation."""
        await self.say(GREETING)
        request = await self.hear()
        assert request["execute"] == "qmp_capabilities"
        await self.say((answer or {"return": {}}) | {"id": request["id"]})


@pytest.fixture
async def peer():
    """One end of a socketpair, speaking as QEMU."""
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    async with ours, theirs:
        yield Peer(ours, theirs)


@attrs.define(eq=False)
class Qemu:
    """A QEMU without a machine, paused, and where its monitor listens."""

    process: trio.Process
    path: Path


@pytest.fixture
def patience(nursery):
    """A test with a real QEMU is given a minute; QEMU needs some milliseconds."""

    async def run_out():
        with trio.fail_after(60):
            await trio.sleep_forever()

    nursery.start_soon(run_out)


@pytest.fixture
async def qemu(tmp_path, patience):
    """A real QEMU whose monitor listens on a socket that we bound."""
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(8)
        process = await trio.lowlevel.open_process(
            [
                *("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"),
                *("-S", "-chardev", f"socket,id=qmp,fd={listening.fileno()},server=on,wait=off"),
                *("-mon", "chardev=qmp,mode=control"),
            ],
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield Qemu(process, path)
    finally:
        process.kill()
        with trio.CancelScope(shield=True), trio.fail_after(30):
            await process.wait()


def _fds():
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[path.name] = path.readlink()
    return found


def _children():
    tasks = Path("/proc/self/task").iterdir()
    return " ".join((task / "children").read_text() for task in tasks).split()


@pytest.fixture(autouse=True)
def nothing_left():
    """Every test ends with the fds and the child processes it began with."""
    fds, children = _fds(), _children()
    yield
    assert _fds() == fds
    assert _children() == children
