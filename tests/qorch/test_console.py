import os
import socket

import pytest
import trio

from qorch.console import Console, open_console, read_end, read_tail, rotate_log
from qorch.sockets import bind_unix


@pytest.fixture
async def pair():
    """A console's end of a socket pair, and QEMU's."""
    ours, theirs = socket.socketpair()
    async with (
        trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream,
        trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as qemu,
    ):
        yield stream, qemu


async def drain(watcher):
    """Everything a watcher gets until the console ends."""
    return b"".join([data async for data in watcher])


async def test_every_watcher_sees_everything(pair, tmp_path, nursery):
    """From the moment it looks, to the end."""
    stream, qemu = pair
    console = Console(stream, tmp_path / "log", 1000)
    nursery.start_soon(console.run)
    with console.watch() as one:
        await qemu.send_all(b"hello ")
        assert await anext(one) == b"hello "
        with console.watch() as other:
            await qemu.send_all(b"world")
            await qemu.send_eof()
            with trio.fail_after(60):
                assert (await drain(one), await drain(other)) == (b"world", b"world")


async def test_who_types_is_heard(pair, tmp_path):
    """Whole pieces, from any number of watchers."""
    stream, qemu = pair
    console = Console(stream, tmp_path / "log", 1000)
    with console.watch() as watcher, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.send, b"a" * 9)
            nursery.start_soon(watcher.send, b"b" * 9)
        typed = await qemu.receive_some()
    assert typed in (b"a" * 9 + b"b" * 9, b"b" * 9 + b"a" * 9)


async def test_a_slow_watcher_is_told_what_it_missed(pair, tmp_path):
    """It gets the beginning, then how many bytes it was too slow for; others lose nothing."""
    stream, _ = pair
    console = Console(stream, tmp_path / "log", 1 << 30)
    with console.watch() as slow:
        for _ in range(256):
            slow.offer_nowait(b"x" * 10)
        slow.offer_nowait(b"lost")
        slow.offer_nowait(b"lost too")
        assert await anext(slow) == b"x" * 10
        assert await anext(slow) == b"x" * 10
        slow.offer_nowait(b"again")
        slow.end()
        rest = await drain(slow)
    assert rest == b"x" * 2540 + b"\r\n[12 bytes skipped]\r\nagain"


async def test_who_watches_a_console_that_has_ended_sees_its_end(pair, tmp_path):
    """Rather than waiting for ever."""
    stream, qemu = pair
    console = Console(stream, tmp_path / "log", 1000)
    await qemu.aclose()
    await console.run()
    with console.watch() as watcher, trio.fail_after(60):
        assert await drain(watcher) == b""


async def test_a_connection_that_breaks_is_an_end(pair, tmp_path):
    """QEMU may die with our bytes unread."""
    stream, qemu = pair
    console = Console(stream, tmp_path / "log", 1000)
    await console.send(b"unread")
    await qemu.aclose()
    with console.watch() as watcher, trio.fail_after(60):
        await console.run()
        assert await drain(watcher) == b""


async def test_the_log_stays_within_its_size(pair, tmp_path, nursery):
    """However much the guest prints: the log and the one before it, and the end is kept."""
    stream, qemu = pair
    log = tmp_path / "console.log"
    console = Console(stream, log, 1000)
    nursery.start_soon(console.run)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        with console.watch() as watcher:
            for number in range(100):
                line = f"line {number:94}\n".encode()
                os.write(fd, line)  # as QEMU does: to the log, then to whoever is connected
                await qemu.send_all(line)
                assert await anext(watcher) == line
                assert log.stat().st_size <= 1000
                while number % 10 == 9 and log.stat().st_size:  # as long as the log is cut
                    await trio.lowlevel.checkpoint()
    finally:
        os.close(fd)
    old = log.with_name("console.log.1")
    assert old.stat().st_size == 1000
    assert (old.read_bytes() + log.read_bytes()).endswith(b"99\n")


async def test_a_log_that_was_long_already_is_cut_too(tmp_path, nursery):
    """QEMU went on writing while no supervisor ran."""
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * 5000)
    with bind_unix(tmp_path / "s") as listener:
        async with open_console(tmp_path / "s", log, 1000) as console:
            served, _ = listener.accept()
            with served, trio.fail_after(60):
                served.sendall(b"y")
                served.shutdown(socket.SHUT_RDWR)
                await console.run()
    assert log.stat().st_size == 0
    assert log.with_name("console.log.1").stat().st_size == 5000


def test_a_log_that_cannot_be_copied_is_cut_nevertheless(tmp_path):
    """On a full disk the old part is lost; the supervisor and the new part are not."""
    log = tmp_path / "console.log"
    log.write_bytes(b"x")
    log.with_name("console.log.1").mkdir()  # nothing can be copied there
    rotate_log(log)
    assert log.read_bytes() == b""


def test_there_need_be_no_log(tmp_path):
    """Nothing to rotate, nothing to read, nothing made."""
    rotate_log(tmp_path / "log")
    assert (read_tail(tmp_path / "log"), read_end(tmp_path / "log", 9)) == ("", b"")
    assert list(tmp_path.iterdir()) == []


def test_the_tail_of_a_log_is_its_last_lines(tmp_path):
    """By lines and by bytes, with what is no text replaced."""
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"%d\r\n" % number for number in range(1000)) + b"\xff end")
    assert read_tail(log, lines=3) == "998\n999\n\ufffd end"
    assert read_tail(log, size=4) == " end"
    assert read_end(log, 5) == b"\xff end"


def test_a_log_that_cannot_be_cut_ends_nothing(tmp_path):
    """A file system that was made read-only, say: the log goes on as it is."""
    (tmp_path / "file").write_bytes(b"")
    rotate_log(tmp_path / "file" / "log")
    rotate_log(tmp_path)
    rotate_log(tmp_path / "none")
