"""The guest agent: JSON lines over a virtio serial port that QEMU passes through a Unix socket.

What is sent while nobody listens in the guest waits there, and is answered when an agent comes up:
so each conversation begins with `guest-sync-delimited`, and what comes before the answer to that is
thrown away (docs/interop/qemu-ga-ref of QEMU). QEMU serves one client at a time; others wait.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import attrs
import trio

from qorch.errors import AgentError
from qorch.sockets import connect_unix

_DELIMITER = b"\xff"
_CHUNK = 1 << 16
_MAX_LINE = 64 << 20  # of an answer: guest-file-read gives up to 48 MB
_AGAIN = "try again; in the guest, systemctl restart qemu-guest-agent starts it anew"
_ALLOWED = "what it allows is in /etc/qemu/qemu-ga.conf of the guest"
_RUNS = "the machine has one while it runs, with guest_agent = true"
_SYNC_DEADLINE = 10.0  # seconds for an agent whose guest is busy


@attrs.define(eq=False)
class Agent:
    """A conversation with the agent in a guest; after an error it is over."""

    _stream: trio.SocketStream
    _buffer: bytearray = attrs.field(factory=bytearray, init=False)

    async def execute(self, command: str, **arguments: object) -> Any:
        """Have a command carried out and return its result.

        Raises AgentError if the guest refuses it, or the connection ends. There is no deadline.
        """
        request: dict[str, object] = {"execute": command}
        if arguments:
            request["arguments"] = {
                key.replace("_", "-"): value for key, value in arguments.items()
            }
        await self._send(json.dumps(request).encode() + b"\n")
        return self._read_result(command, await self._receive_until(b"\n"))

    async def sync(self) -> None:
        """Leave behind whatever earlier conversations did not read."""
        number = secrets.randbits(31)
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        await self._send(_DELIMITER + json.dumps(request).encode() + b"\n")
        while True:
            await self._receive_until(_DELIMITER)
            line = await self._receive_until(b"\n")
            if _find_number(line) == number:
                return

    async def ping(self) -> None:
        """Have an answer."""
        await self.execute("guest-ping")

    async def freeze(self) -> int:
        """Freeze the guest's file systems; how many."""
        return await self._count("guest-fsfreeze-freeze")

    async def thaw(self) -> int:
        """Thaw them; how many. Those that are not frozen do not mind."""
        return await self._count("guest-fsfreeze-thaw")

    async def is_frozen(self) -> bool:
        """Whether the guest's file systems are frozen."""
        return bool(await self.execute("guest-fsfreeze-status") == "frozen")

    async def find_addresses(self) -> dict[str, list[IPv4Address | IPv6Address]]:
        """The IP addresses of the guest's interfaces, by their names in the guest."""
        command = "guest-network-get-interfaces"
        interfaces = await self.execute(command)
        try:
            return {interface["name"]: list(_addresses(interface)) for interface in interfaces}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _nonsense(command) from None

    async def _count(self, command: str) -> int:
        number = await self.execute(command)
        if not isinstance(number, int):
            raise _nonsense(command)
        return number

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise AgentError("the connection to the guest agent broke", _AGAIN) from error

    async def _receive_until(self, end: bytes) -> bytes:
        """What comes before a byte."""
        while end not in self._buffer:
            if len(self._buffer) > _MAX_LINE:
                raise AgentError("the guest agent's answer has no end", _AGAIN)
            try:
                data = await self._stream.receive_some(_CHUNK)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise AgentError("the connection to the guest agent ended", _AGAIN)
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(end)
        self._buffer[:] = rest
        return line

    @staticmethod
    def _read_result(command: str, line: bytes) -> Any:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AgentError(f"the guest agent answered {command} with no JSON", _AGAIN) from error
        if not isinstance(answer, dict) or not {"return", "error"} & answer.keys():
            raise AgentError(f"the guest agent did not answer {command}", _AGAIN)
        if "error" in answer:
            refusal = answer["error"] if isinstance(answer["error"], dict) else {}
            words = refusal.get("desc", "no reason given")
            raise AgentError(f"the guest agent refuses {command}: {words}", _ALLOWED)
        return answer["return"]


def _nonsense(command: str) -> AgentError:
    return AgentError(f"the guest agent did not answer {command} with what it should", _AGAIN)


def _find_number(line: bytes) -> object:
    try:
        return json.loads(line).get("return")
    except (ValueError, AttributeError, RecursionError):
        return None


def _addresses(interface: dict[str, Any]) -> Iterator[IPv4Address | IPv6Address]:
    for address in interface.get("ip-addresses", ()):
        yield ip_address(address["ip-address"])


@asynccontextmanager
async def open_agent(path: Path) -> AsyncIterator[Agent]:
    """Talk to the agent behind a socket; an agent that does not answer costs some seconds.

    Raises AgentError.
    """
    try:
        sock = connect_unix(path)
    except OSError as error:
        raise AgentError(f"the guest agent's socket: {error.strerror}", _RUNS) from error
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
        agent = Agent(stream)
        with trio.move_on_after(_SYNC_DEADLINE) as deadline:
            await agent.sync()
        if deadline.cancelled_caught:
            raise AgentError(
                "no guest agent answers", "is qemu-guest-agent installed and running in the guest?"
            )
        yield agent
