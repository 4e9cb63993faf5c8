"""The monitor on a real QEMU."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from qorch.qmp import (
    CommandError,
    CommandNotFoundError,
    DeviceNotFoundError,
    MonitorLostError,
    open_monitor,
)


async def test_version(qemu):
    """The greeting's version is that of query-version."""
    async with open_monitor(qemu.path) as monitor:
        version = await monitor.execute("query-version")
    numbers = version["qemu"]
    assert monitor.version == (numbers["major"], numbers["minor"], numbers["micro"])
    assert monitor.greeting.package == version["package"]


async def test_many_in_flight(qemu):
    """Twenty tasks with ten commands each get their own answers."""

    async def ask(number):
        for _ in range(10):
            path = f"/nowhere/{number}"
            with pytest.raises(DeviceNotFoundError, match=path):
                await monitor.execute("qom-list", {"path": path})

    async with open_monitor(qemu.path) as monitor, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)


async def test_error_classes(qemu):
    """Refusals come by QEMU's classes, and a large answer comes whole."""
    async with open_monitor(qemu.path) as monitor:
        with pytest.raises(CommandNotFoundError):
            await monitor.execute("no-such-command")
        with pytest.raises(DeviceNotFoundError):
            await monitor.execute("device_del", {"id": "nope"})
        with pytest.raises(CommandError) as caught:
            await monitor.execute("query-status", {"unknown": "é\n"})
        assert caught.value.error_class == "GenericError"
        assert len(await monitor.execute("query-qmp-schema")) > 1000


async def test_next_client(qemu):
    """When one monitor closes, QEMU greets the next."""
    for _ in range(3):
        async with open_monitor(qemu.path) as monitor:
            assert (await monitor.execute("query-status"))["running"] is False


async def test_long_path(tmp_path, qemu):
    """A socket in a directory whose path is longer than sun_path can be reached."""
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    qemu.path.rename(folder / "qmp.sock")
    async with open_monitor(folder / "qmp.sock") as monitor:
        assert await monitor.execute("query-status")


async def test_fds(qemu):
    """QEMU gets the fds of add-fd and getfd, and ours stay open."""
    with tempfile.TemporaryFile() as file:
        async with open_monitor(qemu.path) as monitor:
            added = await monitor.execute("add-fd", {"opaque": "x"}, fds=[file.fileno()])
            (fdset,) = await monitor.execute("query-fdsets")
            assert fdset["fdset-id"] == added["fdset-id"]
            assert fdset["fds"] == [{"fd": added["fd"], "opaque": "x"}]
            theirs = f"/proc/{qemu.process.pid}/fd/{added['fd']}"
            assert os.stat(theirs) == os.fstat(file.fileno())  # noqa: PTH116  as of an fd
            await monitor.execute("getfd", {"fdname": "named"}, fds=[file.fileno()])
            await monitor.execute("closefd", {"fdname": "named"})
            with pytest.raises(CommandError):
                await monitor.execute("closefd", {"fdname": "named"})


async def test_fds_in_flight_at_once(qemu):
    """Commands that carry fds may be in flight together: each gets its own."""
    found = {}

    async def add(file):
        added = await monitor.execute("add-fd", fds=[file.fileno()])
        path = f"/proc/{qemu.process.pid}/fd/{added['fd']}"
        found[file.fileno()] = os.stat(path).st_ino  # noqa: PTH116  as of an fd

    files = [tempfile.TemporaryFile() for _ in range(8)]  # noqa: SIM115  closed below
    async with open_monitor(qemu.path) as monitor, trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(add, file)
    assert found == {file.fileno(): os.fstat(file.fileno()).st_ino for file in files}
    for file in files:
        file.close()


async def test_events(qemu):
    """Two listeners both see the guest go on and stop, and QEMU's end."""
    async with open_monitor(qemu.path) as monitor:
        with monitor.listen("RESUME", "STOP") as some, monitor.listen() as every:
            await monitor.execute("cont")
            await monitor.execute("stop")
            await monitor.quit()
            assert [(await anext(some)).name for _ in range(2)] == ["RESUME", "STOP"]
            assert [(await anext(every)).name for _ in range(3)] == ["RESUME", "STOP", "SHUTDOWN"]
            with pytest.raises(MonitorLostError):
                await anext(every)
    assert await qemu.process.wait() == 0


async def test_quit(qemu):
    """`quit` succeeds however its answer races with EOF; QEMU ends, the monitor is lost."""
    async with open_monitor(qemu.path) as monitor:
        await monitor.quit()
        assert type(await monitor.wait_closed()) is MonitorLostError
    assert await qemu.process.wait() == 0


async def test_killed(qemu):
    """When QEMU is killed, a command in flight raises MonitorLostError."""

    async def ask():
        with pytest.raises(MonitorLostError) as caught:
            await monitor.execute("query-status")
        assert caught.value.command == "query-status"

    async with open_monitor(qemu.path) as monitor:
        qemu.process.send_signal(signal.SIGSTOP)  # so that it cannot answer
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            qemu.process.kill()
    assert await qemu.process.wait() == -signal.SIGKILL


async def test_deadline_on_a_stopped_qemu(qemu):
    """A QEMU that hangs costs the deadline; when it goes on, so does the monitor."""
    async with open_monitor(qemu.path) as monitor:
        qemu.process.send_signal(signal.SIGSTOP)
        with trio.move_on_after(0.05) as scope:
            await monitor.execute("stop", {"x": "y" * 400_000})
        assert scope.cancelled_caught
        qemu.process.send_signal(signal.SIGCONT)
        assert (await monitor.execute("query-status"))["running"] is False
