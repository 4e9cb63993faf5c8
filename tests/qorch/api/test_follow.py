"""The console log: its tail, what is added, rotation, and the end."""

import os
import shutil
from pathlib import Path

import pytest
import trio

from qorch.api.follow import write_log
from qorch.errors import NotFoundError


class Sink:
    """Collects what is written, and waits for it."""

    def __init__(self):
        self.data = b""
        self._changed = trio.Event()

    async def write(self, data):
        """Take a piece."""
        self.data += data
        self._changed.set()
        self._changed = trio.Event()
        await trio.lowlevel.checkpoint()

    async def wait(self, data):
        """Wait until all that was written is this."""
        with trio.fail_after(10):
            while self.data != data:
                await self._changed.wait()


@pytest.fixture
def log(tmp_path):
    """Where the log would be."""
    (tmp_path / "web").mkdir()
    return tmp_path / "web" / "console.log"


def rotate(log):
    """As the supervisor does it."""
    shutil.copyfile(log, log.with_name("console.log.1"))
    with log.open("r+b") as file:
        file.truncate(0)


def append(log, data):
    """As QEMU does it."""
    with log.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize("old", [b"", b"1\n2\n3\n", b"x" * 70_000 + b"\n"])
@pytest.mark.parametrize(
    "new", [b"", b"a\nb\nc\n", b"a\nb\nno end", b"\n\n", b"y" * 140_000 + b"\nz"]
)
@pytest.mark.parametrize("lines", [0, 1, 2, 3, 4, 100, None])
async def test_tail(log, old, new, lines):
    """The last lines are what `tail` says they are, across the rotation."""
    log.with_name("console.log.1").write_bytes(old)
    log.write_bytes(new)
    sink = Sink()
    await write_log(log, sink.write, lines=lines, follow=False)
    every = old.splitlines(keepends=True) + new.splitlines(keepends=True)
    kept = every if lines is None else every[len(every) - min(lines, len(every)) :]
    assert sink.data == b"".join(kept)


async def test_no_log_yet(log):
    """A machine that never ran has an empty log."""
    sink = Sink()
    await write_log(log, sink.write, lines=5, follow=False)
    assert sink.data == b""


async def test_following(log):
    """What is added comes at once, from the file's first byte, across rotations, until the end."""
    sink = Sink()

    async def follow():
        await write_log(log, sink.write, lines=None, follow=True)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            append(log, b"one\n")
            await sink.wait(b"one\n")
            append(log, b"two\n")
            rotate(log)  # before the follower has seen it
            append(log, b"3\n")
            await sink.wait(b"one\ntwo\n3\n")
            append(log, b".\n")
            await sink.wait(b"one\ntwo\n3\n.\n")
            rotate(log)
            append(log, b"4\n")
            await sink.wait(b"one\ntwo\n3\n.\n4\n")
            shutil.rmtree(log.parent)
    assert not is_open(log)


def is_open(path):
    """Whether this process has a file open."""
    return str(path) in {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}


async def test_following_nothing(tmp_path):
    """Where there is no machine's directory there is nothing to follow."""
    with pytest.raises(NotFoundError, match=r"there is no .*console.log yet"):
        await write_log(tmp_path / "x" / "console.log", Sink().write, lines=None, follow=True)
