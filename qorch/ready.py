"""Waiting until a guest is ready, by what its spec says that means."""

from __future__ import annotations

import os
import re
import struct
from ipaddress import IPv4Address

import trio

from qorch.console import read_end, read_tail
from qorch.errors import MachineError
from qorch.machine import Machine

_ECHO_REQUEST, _ECHO_REPLY = 8, 0  # RFC 792
_AGAIN = 0.25  # seconds between two attempts
_MAX_LINE = 1 << 16


async def wait_ready(machine: Machine, *, log_tail: int = 15) -> None:
    """Wait until the guest is ready; the caller sets the deadline.

    Raises MachineError, with the end of the console log, if the machine ends before.
    """
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            await _wait_guest(machine)
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait)
        await machine.ended.wait()
        nursery.cancel_scope.cancel()
    if machine.ended.is_set():
        name = machine.plan.name
        tail = read_tail(machine.paths.machine_data(name) / "console.log", log_tail)
        words = "\n".join(filter(None, (machine.last_words, tail)))
        raise MachineError(f"{name} ended before it was ready", words or None)


async def _wait_guest(machine: Machine) -> None:
    ready, ips = machine.plan.ready, machine.plan.ips
    if ready.console is not None:
        await _wait_line(machine, re.compile(ready.console))
    elif ready.tcp is not None and ips:
        await _wait_port(ips[0], ready.tcp)
    elif ips:
        await _wait_ping(ips[0])


async def _wait_line(machine: Machine, pattern: re.Pattern[str]) -> None:
    """A line on the console, printed since power-on."""
    log = machine.paths.machine_data(machine.plan.name) / "console.log"
    with machine.console.watch() as watcher:
        rest = read_end(log, machine.plan.log_size)
        while not _has_line(rest, pattern):
            rest = rest.rpartition(b"\n")[2][-_MAX_LINE:]  # bytes: a character may be cut in two
            try:
                rest += await anext(watcher)
            except StopAsyncIteration:
                await trio.sleep_forever()  # QEMU closed its console: its end is noticed elsewhere


def _has_line(text: bytes, pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(line) for line in text.decode(errors="replace").splitlines())


async def _wait_port(ip: IPv4Address, port: int) -> None:
    while True:
        with trio.move_on_after(2):
            try:
                stream = await trio.open_tcp_stream(str(ip), port)
            except OSError:
                pass
            else:
                await stream.aclose()
                return
        await trio.sleep(_AGAIN)


async def _wait_ping(ip: IPv4Address) -> None:
    """An ICMP echo reply."""
    icmp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_RAW, trio.socket.IPPROTO_ICMP)
    with icmp:
        identity = os.getpid() & 0xFFFF
        for number in range(1 << 16):
            try:
                await icmp.sendto(make_echo(identity, number), (str(ip), 0))
            except OSError:  # no route yet, or nobody answers ARP
                await trio.sleep(_AGAIN)
                continue
            with trio.move_on_after(_AGAIN):
                while True:
                    packet, (sender, *_) = await icmp.recvfrom(1024)
                    if sender == str(ip) and is_echo_reply(packet, identity):
                        return


def make_echo(identity: int, number: int) -> bytes:
    """An ICMP echo request (RFC 792)."""
    unsummed = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, identity, number)
    total = sum(struct.unpack("!4H", unsummed))
    while total >> 16:  # ones' complement: the carry goes round (RFC 1071)
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, checksum, identity, number)


def is_echo_reply(packet: bytes, identity: int) -> bool:
    """Whether an IPv4 packet is the answer to one of our requests."""
    header = (packet[0] & 15) * 4
    if len(packet) < header + 8:
        return False
    kind, _, _, theirs = struct.unpack_from("!BBHH", packet, header)
    return (kind, theirs) == (_ECHO_REPLY, identity)
