"""The pump, against a peer that does what a test tells it, also what QEMU never should."""

from __future__ import annotations

import array
import os
import socket
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from qorch.qmp import (
    CommandError,
    ConnectError,
    DeviceNotFoundError,
    EventsLostError,
    MonitorLostError,
    ProtocolError,
    open_monitor,
    run_monitor,
)
from qorch.qmp.listener import MAX_HELD, Listener
from qorch.qmp.session import Event

BIG = {"x": "y" * 1_000_000}


@pytest.fixture
async def greeted(peer, nursery):
    """The peer does its part, so that a test opens the monitor in no nursery of its own."""
    nursery.start_soon(peer.greet)


@asynccontextmanager
async def ready(peer):
    """Open a monitor and do the peer's part of the negotiation."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.greet)
        async with open_monitor(peer.other) as monitor:
            yield monitor


class Results(list):
    """What several calls came to, in the order they ended."""

    async def of(self, call, *arguments):
        """Make one call and keep its result or its error."""
        try:
            self.append(await call(*arguments))
        except MonitorLostError as error:
            self.append(error)


async def test_answers_find_their_callers(peer):
    """Commands in flight at once get their own answers, in whatever order these come."""
    results = {}

    async def ask(monitor, command):
        results[command] = await monitor.execute(command)

    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        for command in ("a", "b", "c"):
            nursery.start_soon(ask, monitor, command)
        requests = [await peer.hear() for _ in range(3)]
        for request in reversed(requests):
            await peer.say({"return": request["execute"] * 2, "id": request["id"]})
    assert results == {"a": "aa", "b": "bb", "c": "cc"}


async def test_refused_command(peer):
    """A refusal raises the class that QEMU named, and the connection stays good."""
    async with ready(peer) as monitor, trio.open_nursery() as nursery:

        async def refuse_then_answer():
            error = {"class": "DeviceNotFound", "desc": "no such"}
            await peer.say({"error": error, "id": (await peer.hear())["id"]})
            await peer.say({"return": 1, "id": (await peer.hear())["id"]})

        nursery.start_soon(refuse_then_answer)
        with pytest.raises(DeviceNotFoundError) as caught:
            await monitor.execute("device_del", {"id": "x"})
        assert caught.value.command == "device_del"
        assert await monitor.execute("ok") == 1


async def test_given_up_call(peer, autojump_clock):
    """The answer to a cancelled command is dropped when it comes; the next gets its own."""
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            await monitor.execute("slow")
        assert scope.cancelled_caught
        results = Results()
        nursery.start_soon(results.of, monitor.execute, "next")
        slow, following = await peer.hear(), await peer.hear()
        await peer.say({"return": "late", "id": slow["id"]})
        await peer.say({"return": "next", "id": following["id"]})
    assert results == ["next"]


async def test_cancelled_in_the_middle_of_a_line(peer, autojump_clock):
    """Half a line is finished by the next caller; who is cancelled before its turn sends none."""
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        for command in ("begun", "waiting"):
            with trio.move_on_after(1) as scope:
                await monitor.execute(command, BIG)
            assert scope.cancelled_caught
        results = Results()
        nursery.start_soon(results.of, monitor.execute, "last")
        begun, last = await peer.hear(), await peer.hear()
        assert begun["execute"] == "begun"
        assert begun["arguments"] == BIG
        assert last["execute"] == "last"
        await peer.say({"return": 1, "id": begun["id"]}, {"return": 2, "id": last["id"]})
    assert results == [2]


async def test_cancelled_before_the_first_byte(peer, autojump_clock):
    """A command that could not begin is withdrawn: neither it nor its fd is ever sent."""
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        filled = 0
        with trio.move_on_after(1):
            while True:
                filled += await peer.other.socket.send(b"\n")
        with trio.move_on_after(1) as scope:
            await monitor.execute("never", fds=[0])
        assert scope.cancelled_caught
        results = Results()
        nursery.start_soon(results.of, monitor.execute, "first")
        while filled:
            data, ancillary, *_ = await peer.stream.socket.recvmsg(filled, 100)
            assert not data.strip()
            assert not ancillary
            filled -= len(data)
        first = await peer.hear()
        assert first["execute"] == "first"
        await peer.say({"return": 1, "id": first["id"]})
    assert results == [1]


async def test_fds_travel_with_the_first_byte(peer):
    """An fd comes with the first byte of its command, and stays the caller's."""
    inside, outside = os.pipe()
    results = Results()
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        call = lambda: monitor.execute("getfd", {"fdname": "x"}, fds=[inside])  # noqa: E731
        nursery.start_soon(results.of, call)
        data, [(level, kind, payload)], *_ = await peer.stream.socket.recvmsg(
            1, socket.CMSG_SPACE(4)
        )
        assert (data, level, kind) == (b"{", socket.SOL_SOCKET, socket.SCM_RIGHTS)
        (received,) = array.array("i", payload)
        assert os.fstat(received) == os.fstat(inside)
        os.close(received)
        await peer.stream.receive_some()
        await peer.say({"return": {}, "id": 2})
    assert results == [{}]
    for fd in (inside, outside):
        os.close(fd)


async def test_fd_that_is_not_open(peer):
    """A bad fd is the caller's mistake: OSError, nothing sent, the connection stays good."""
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="Bad file descriptor"):
            await monitor.execute("getfd", fds=[10_000])
        results = Results()
        nursery.start_soon(results.of, monitor.execute, "next")
        request = await peer.hear()
        await peer.say({"return": request["execute"], "id": request["id"]})
    assert results == ["next"]


async def test_listeners(peer):
    """Each listener gets the events it named, all of them, in order; a late one none."""
    async with ready(peer) as monitor:
        with monitor.listen("STOP", "RESUME") as some, monitor.listen() as every:
            for name in ("STOP", "RTC_CHANGE", "RESUME"):
                await peer.happen(name, offset=1)
            assert [(await anext(every)).name for _ in range(3)] == ["STOP", "RTC_CHANGE", "RESUME"]
            with monitor.listen() as late:
                await peer.happen("SHUTDOWN")
                assert (await anext(late)).name == "SHUTDOWN"
            event = await anext(some)
            assert (event.name, event.data, event.timestamp) == ("STOP", {"offset": 1}, 1.5)
            assert (await anext(some)).name == "RESUME"
        with pytest.raises(trio.ClosedResourceError):
            await anext(some)


async def test_cancelled_reader_finds_no_closed_listener():
    """A reader that an event has woken when it is cancelled goes, though the listener is closed."""
    listener = Listener(frozenset())

    async def read():
        async for _ in listener:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        listener.offer_nowait(Event(name="STOP", timestamp=1.5))
        nursery.cancel_scope.cancel()
        listener.close()


async def test_flood_with_a_lazy_listener(peer):
    """A listener that does not read is told how many it missed; one that reads misses none."""
    count, got, names = 20_000, [], []

    async def read_all(events, numbers):
        async for event in events:
            numbers.append(event.data["n"])
            if len(numbers) == count:
                return

    async with ready(peer) as monitor:
        with monitor.listen() as lazy:
            with monitor.listen() as eager:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read_all, eager, got)
                    for number in range(count):
                        await peer.happen("FLOOD", n=number)
            assert got == list(range(count))
            with pytest.raises(EventsLostError) as caught:
                await read_all(lazy, names)
            assert names == list(range(len(names)))
            assert len(names) + caught.value.count == count
            assert len(names) * 90 < MAX_HELD + 200
            await peer.happen("AFTER")
            assert (await anext(lazy)).name == "AFTER"


async def test_event_before_the_greeting(peer):
    """An event may come before the greeting."""
    await peer.happen("STOP")
    async with ready(peer) as monitor:
        assert monitor.version == (7, 2, 22)


async def test_transcript(peer):
    """A transcript has every line of both directions, also the one that broke the protocol."""
    lines = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.greet)
        async with open_monitor(peer.other, transcript=lambda *line: lines.append(line)) as monitor:
            await peer.stream.send_all(b"nonsense\r\n")
            await monitor.wait_closed()
    assert [direction for direction, _ in lines] == ["received", "sent", "received", "received"]
    assert lines[1:] == [
        ("sent", b'{"execute":"qmp_capabilities","id":1}'),
        ("received", b'{"return": {}, "id": 1}'),
        ("received", b"nonsense"),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\n",
        b'{"return": {}, "id": 99}\n',
        b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n',
        b" " * (17 << 20),
    ],
    ids=["garbage", "unknown id", "error without id", "giant line"],
)
async def test_broken_protocol(peer, bad):
    """A peer that breaks the protocol ends every call, later calls and every listener."""
    results = Results()
    async with ready(peer) as monitor:
        with monitor.listen() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(results.of, monitor.execute, "a")
                nursery.start_soon(results.of, monitor.quit)
                await peer.hear()
                await peer.hear()
                try:
                    await peer.stream.send_all(bad)
                except trio.BrokenResourceError:  # it hangs up within the giant line
                    assert len(bad) > 1000
            with pytest.raises(ProtocolError):
                await anext(events)
        with pytest.raises(ProtocolError):
            await monitor.execute("b")
        assert type(await monitor.wait_closed()) is ProtocolError
    assert {type(result) for result in results} == {ProtocolError}
    assert {result.command for result in results} == {"a", "quit"}


@pytest.mark.parametrize("last", [b"", b'{"return": {}, '])
async def test_eof_with_commands_in_flight(peer, last):
    """When QEMU goes, in the middle of a line or not, each call raises its own MonitorLostError."""
    results = Results()
    async with ready(peer) as monitor:
        with monitor.listen() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(results.of, monitor.execute, "a")
                nursery.start_soon(results.of, monitor.execute, "b")
                await peer.hear()
                await peer.hear()
                await peer.happen("SHUTDOWN")
                await peer.stream.send_all(last)
                await peer.stream.aclose()
            assert (await anext(events)).name == "SHUTDOWN"
            for _ in range(2):
                with pytest.raises(MonitorLostError):
                    await anext(events)
        with pytest.raises(MonitorLostError, match="c: QEMU closed its monitor"):
            await monitor.execute("c")
        with pytest.raises(MonitorLostError), monitor.listen() as events:
            await anext(events)
        with pytest.raises(MonitorLostError):
            await monitor.quit()
    assert {type(result) for result in results} == {MonitorLostError}
    assert {result.command for result in results} == {"a", "b"}
    assert results[0] is not results[1]


async def test_eof_while_sending(peer):
    """QEMU going in the middle of a line is the loss of the monitor for whoever sends or waits."""
    results = Results()
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        nursery.start_soon(results.of, monitor.execute, "a", BIG)
        nursery.start_soon(results.of, monitor.execute, "b", BIG)
        await wait_all_tasks_blocked()
        await peer.stream.aclose()
    assert [type(result) for result in results] == [MonitorLostError] * 2


async def test_reader_gone(peer):
    """A peer that only stops reading is lost for whoever sends."""
    async with ready(peer) as monitor:
        peer.stream.socket.shutdown(socket.SHUT_RD)
        with pytest.raises(MonitorLostError):
            await monitor.execute("a")


@pytest.mark.parametrize("answered", [True, False])
async def test_quit(peer, answered):
    """The answer to `quit` and EOF are success alike."""
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        nursery.start_soon(monitor.quit)
        request = await peer.hear()
        assert request["execute"] == "quit"
        if answered:
            await peer.say({"return": {}, "id": request["id"]})
        await peer.stream.aclose()
        await monitor.wait_closed()


async def test_silence(peer, autojump_clock):
    """A QEMU that says nothing more costs the caller its deadline, and can be closed."""
    async with ready(peer) as monitor:
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await monitor.execute("a")
    with pytest.raises(MonitorLostError, match="closed on our side"):
        await monitor.execute("b")


@pytest.mark.parametrize("said", [b"", b'{"QMP": {"ver'])
async def test_greeting_never_comes(peer, autojump_clock, said):
    """Without a whole greeting the caller's deadline works."""
    await peer.stream.send_all(said)
    with pytest.raises(trio.TooSlowError), trio.fail_after(5):
        async with open_monitor(peer.other):
            pytest.fail("there was no greeting")
    assert peer.other.socket.fileno() == -1


@pytest.mark.parametrize(
    ("said", "error"),
    [(b"", MonitorLostError), (b'{"QMP"', MonitorLostError), (b"SSH-2.0\r\n", ProtocolError)],
)
async def test_no_greeting(peer, said, error):
    """A peer that goes or is no QEMU raises as itself, not in a group."""
    await peer.stream.send_all(said)
    await peer.stream.aclose()
    with pytest.raises(error) as caught:
        async with open_monitor(peer.other):
            pytest.fail("there was no greeting")
    assert type(caught.value) is error


async def test_negotiation_refused(peer):
    """A refused negotiation is a CommandError."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.greet, {"error": {"class": "GenericError", "desc": "no"}})
        with pytest.raises(CommandError, match="qmp_capabilities: no"):
            async with open_monitor(peer.other):
                pytest.fail("there was no agreement")


async def test_error_of_the_block(peer, greeted):
    """An error of the block comes out as itself, with the cause and context it had."""
    cause = ValueError("cause")
    with pytest.raises(KeyError) as caught:
        async with open_monitor(peer.other):
            raise KeyError("mine") from cause
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is None


async def test_group_of_the_block(peer, greeted):
    """A group that the block raises stays the group it is."""
    mine = ExceptionGroup("mine", [KeyError("a")])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_monitor(peer.other):
            raise mine
    assert caught.value.message == "mine"
    assert caught.value.exceptions == mine.exceptions


async def test_error_of_a_cancelled_block(peer, greeted):
    """An error raised on the way out of a cancelled block is neither lost nor wrapped."""

    async def fail_when_cancelled(scope):
        async with open_monitor(peer.other):
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("mine")

    with trio.CancelScope() as scope, pytest.raises(KeyError):
        await fail_when_cancelled(scope)


async def test_cancelled_block(peer, greeted):
    """A cancelled block is just cancelled, by a Cancelled that is in no group."""

    async def be_cancelled(scope):
        async with open_monitor(peer.other):
            scope.cancel()
            await trio.sleep_forever()

    with trio.CancelScope() as scope:
        with pytest.raises(trio.Cancelled):
            await be_cancelled(scope)
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_block_outlives_the_connection(peer):
    """The loss of the connection does not end the block, only what uses the monitor."""
    async with ready(peer) as monitor:
        await peer.stream.aclose()
        assert type(await monitor.wait_closed()) is MonitorLostError
        await trio.lowlevel.checkpoint()


async def test_run_monitor(peer):
    """As a task it is started with the monitor and ends when the peer closes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.greet)
        monitor = await nursery.start(run_monitor, peer.other)
        assert monitor.version == (7, 2, 22)
        await peer.stream.aclose()
    with pytest.raises(MonitorLostError):
        await monitor.execute("a")


async def test_close(peer):
    """Closing the monitor hangs up at once, and calls in flight are lost."""
    results = Results()
    async with ready(peer) as monitor, trio.open_nursery() as nursery:
        nursery.start_soon(results.of, monitor.execute, "a")
        await peer.hear()
        monitor.close()
        assert await peer.stream.receive_some() == b""
    assert [type(result) for result in results] == [MonitorLostError]


@pytest.mark.parametrize("folder", ["", "gone"])
async def test_nobody_there(tmp_path, folder):
    """A socket that is not there is a ConnectError that names the path."""
    with pytest.raises(ConnectError, match=r"qmp\.sock: No such file"):
        async with open_monitor(tmp_path / folder / "qmp.sock"):
            pytest.fail("nobody is there")


async def test_full_queue(tmp_path):
    """A monitor whose queue of clients is full is a ConnectError; it never blocks."""
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(path))
        listening.listen(0)
        first.connect(str(path))
        with pytest.raises(ConnectError, match="temporarily unavailable"):
            async with open_monitor(path):
                pytest.fail("nobody listens")


async def test_what_is_read_while_it_is_closed_is_dropped(peer, nursery):
    """Bytes that were read in the very turn in which the monitor was closed on our side."""
    again = trio.Event()

    def record(direction, line):
        if b"FIRST" in line:  # the next read finds this at once, and yields before it returns
            fileno = peer.stream.socket.fileno()
            os.write(fileno, line.replace(b"FIRST", b"SECOND") + b"\n")
            again.set()

    nursery.start_soon(peer.greet)
    async with open_monitor(peer.other, transcript=record) as monitor:
        await peer.happen("FIRST")
        with trio.fail_after(60):
            await again.wait()
            monitor.close()
            assert "closed on our side" in str(await monitor.wait_closed())
