import socket
import struct

import attrs
import goldens
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from qorch.console import Console
from qorch.errors import MachineError
from qorch.machine import Machine
from qorch.paths import StateDir
from qorch.ready import is_echo_reply, make_echo, wait_ready
from qorch.spec import ReadySpec


def test_an_echo_request_is_what_ping_sends():
    """Type, code, checksum, identity and number as in a packet seen on the wire."""
    assert make_echo(0x0001, 0x0009).hex() == "0800f7f500010009"


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
@example(0xFFFF, 0xF800)  # folding the carry makes another carry
def test_the_checksum_of_a_request_holds(identity, number):
    """All words together make 0xffff in ones' complement (RFC 1071)."""
    total = sum(struct.unpack("!4H", make_echo(identity, number)))
    assert total % 0xFFFF == 0


@pytest.mark.parametrize(
    ("icmp", "answer"),
    [
        ("0000 0000 1234 0001", True),
        ("0000 0000 4321 0001", False),
        ("0800 0000 1234 0001", False),
        ("0000 0000 1234", False),
    ],
)
def test_only_an_answer_to_us_is_one(icmp, answer):
    """Whatever the length of the IP header; requests, other pings and cut packets are not."""
    for words in (5, 6):
        packet = bytes([0x40 | words]) + bytes(words * 4 - 1) + bytes.fromhex(icmp)
        assert is_echo_reply(packet, 0x1234) is answer


@pytest.fixture
async def qemu(tmp_path, nursery):
    """A machine whose console we are QEMU's side of, and nothing else of it."""
    ours, theirs = socket.socketpair()
    plan = attrs.evolve(goldens.plan_golden("minimal"), ready=ReadySpec(console="^ünready$"))
    paths = StateDir.from_directory(tmp_path)
    log = paths.machine_data(plan.name) / "console.log"
    log.parent.mkdir(parents=True)
    log.touch()
    async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
        machine = Machine(plan, paths, process=None, on_event=lambda *_: None)
        machine._console = Console(stream, log, 1 << 20)
        nursery.start_soon(machine._console.run)
        with theirs:
            yield machine, theirs, log


async def test_a_line_is_found_in_whatever_pieces_it_comes(qemu, autojump_clock):
    """Cut at any byte, within a character, too."""
    machine, console, _ = qemu
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_ready, machine)
            for byte in "booting\r\nnot ünready\r\nünready\r\n".encode():
                await trio.testing.wait_all_tasks_blocked()
                console.send(bytes([byte]))


async def test_a_line_printed_before_anyone_looked_is_found(qemu, autojump_clock):
    """The log has everything since power-on."""
    machine, _, log = qemu
    log.write_text("booting\r\nünready\r\n$ ")
    with trio.fail_after(60):
        await wait_ready(machine)


@pytest.mark.parametrize(("before", "after"), [("x\n", "ünready\n"), ("ünr", "eady\n")])
async def test_a_line_may_begin_in_the_log(qemu, autojump_clock, before, after):
    """A line that was complete is not joined with the next, one that was not is."""
    machine, console, log = qemu
    log.write_text(before)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_ready, machine)
            await trio.testing.wait_all_tasks_blocked()
            console.send(after.encode())


async def test_other_lines_are_not_the_one(qemu, autojump_clock):
    """Waiting goes on, also after QEMU has closed the console."""
    machine, console, _ = qemu
    console.send("not ünready\n".encode())
    console.shutdown(socket.SHUT_RDWR)
    with trio.move_on_after(60) as scope:
        await wait_ready(machine)
    assert scope.cancelled_caught


async def test_a_machine_that_ends_before_it_is_ready_is_an_error(qemu, autojump_clock):
    """With the end of what QEMU and the guest said."""
    machine, _, log = qemu
    log.write_text("Kernel panic\n")
    log.with_name("qemu.log").write_text("KVM internal error\n")
    machine.ended.set()
    with pytest.raises(MachineError, match="web ended before it was ready") as caught:
        await wait_ready(machine)
    assert caught.value.hint == "KVM internal error\nKernel panic"


async def test_a_machine_without_an_address_is_ready_when_it_runs(qemu, autojump_clock):
    """There is nothing that could be asked."""
    machine, _, _ = qemu
    machine.plan = attrs.evolve(machine.plan, ready=ReadySpec())
    with trio.fail_after(60):
        await wait_ready(machine)
