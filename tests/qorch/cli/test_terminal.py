"""Terminals: the console, progress, and that they are left as they were."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading

import pytest
import trio

from qorch.cli.terminal import parse_escape


@contextlib.contextmanager
def open_terminal(columns=80):
    """A pseudo terminal: the end of the screen and keyboard, and that of the program."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def read_until(fd, end, seconds=20):
    """Read until the data contains `end`."""
    data = b""
    while end not in data:
        assert select.select([fd], [], [], seconds)[0], data
        data += os.read(fd, 4096)
    return data


def is_raw(fd):
    """Whether keys go through as they are typed."""
    return not termios.tcgetattr(fd)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)


@pytest.fixture
def console(qorch, served):
    """`qorch console web` on a terminal that is raw by now: the process and our end."""
    with open_terminal() as (ours, theirs):
        before = termios.tcgetattr(ours)
        with qorch.start("console", "web", stdin=theirs, stdout=theirs, stderr=theirs) as process:
            read_until(ours, b"Connected to web; ^] leaves.")
            os.write(ours, b"hello")
            read_until(ours, b"hello")  # printed by the console: the terminal does not echo
            assert is_raw(ours)
            yield process, ours
            process.wait(20)
        assert termios.tcgetattr(ours) == before


def test_escape_key(console):
    """The escape key leaves, although the machine runs on; what came before it was typed."""
    process, terminal = console
    os.write(terminal, b"bye\x1dnot typed")
    read_until(terminal, b"Left web.")
    assert process.wait(20) == 0


def test_interrupt_key_goes_to_the_guest(console):
    """Ctrl-C is a key like any other."""
    process, terminal = console
    os.write(terminal, b"\x03")
    read_until(terminal, b"\x03")
    os.write(terminal, b"\x1d")
    assert process.wait(20) == 0


def test_machine_that_ends(console):
    """When the machine ends the console ends."""
    process, terminal = console
    os.write(terminal, b"\x04")
    assert process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated(console, number):
    """A signal that ends the program leaves the terminal as it was."""
    process, _ = console
    process.send_signal(number)
    assert process.wait(20) == 128 + number


def test_guest_that_takes_no_input(console, served, fake, monkeypatch):
    """A guest that does not read holds up neither its output nor the escape key."""
    process, terminal = console
    supervisor, call = served
    stuck = threading.Event()

    async def send(self, data):
        stuck.set()
        await trio.sleep_forever()

    monkeypatch.setattr(fake.Watcher, "send", send)
    for _ in range(200):
        os.write(terminal, b"k" * 4000)
        if stuck.is_set():
            break
    assert stuck.wait(20)
    for _ in range(100):
        if select.select([], [terminal], [], 0)[1]:
            os.write(terminal, b"k" * 4000)
    call(supervisor.print_console, b"still here")
    read_until(terminal, b"still here")
    os.write(terminal, b"\x1d")
    assert process.wait(20) == 0


def test_piped_input(qorch, served):
    """Without a terminal all input is typed, and output goes on until the machine ends."""
    supervisor, call = served
    with qorch.start("console", "web", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"ls\x1d\n")
        process.stdin.close()
        assert process.stdout.read(4) == b"ls\x1d\n"
        call(supervisor.print_console, b"later\n")
        assert process.stdout.readline() == b"later\n"
        call(supervisor.print_console, b"\x04")
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_progress_on_a_terminal(qorch, served, document):
    """On a terminal steps overwrite each other, never wider than it is, and notes stay."""
    with open_terminal(columns=20) as (ours, theirs):
        with qorch.start("up", stderr=theirs, stdout=subprocess.PIPE) as process:
            assert process.wait(20) == 0
        screen = os.read(ours, 4096).decode()
    assert "network default: cr\r" in screen.replace("network default: cr ", "network default: cr")
    assert re.search(r"\r +\rnote: vm web: KVM is not there", screen)
    assert "vm web: start\r\n" not in screen


def test_tables_on_a_terminal(qorch, served):
    """On a terminal tables are drawn, with the same cells."""
    with open_terminal(columns=120) as (ours, theirs):
        with qorch.start("ls", stdout=theirs) as process:
            assert process.wait(20) == 0
        screen = os.read(ours, 4096).decode()
    assert "192.168.133.5" in screen
    assert "1GiB" in screen


@pytest.mark.parametrize(
    ("text", "byte"), [("^]", b"\x1d"), ("^a", b"\x01"), ("^A", b"\x01"), ("~", b"~"), ("^", b"^")]
)
def test_escape_keys(text, byte):
    """An escape key is written as people write control keys, or as itself."""
    assert parse_escape(text) == byte


@pytest.mark.parametrize("text", ["", "^1", "ab", "ü", "^]]"])
def test_wrong_escape_keys(text):
    """What is no key is refused."""
    with pytest.raises(ValueError, match="is no key"):
        parse_escape(text)
