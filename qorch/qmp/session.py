"""QMP without I/O: bytes in, messages out; a command in, bytes out.

QEMU greets, we choose capabilities, then commands and events cross each other freely. Every
message is one line of JSON. A line is either wholly right and its turn, or the session is over:
after one message that cannot be trusted there is no telling which answer belongs to what.

    WAITING_GREETING --Greeting--> NEGOTIATING --Reply--> READY
           |                            |                   |
           +--------- EOF, or a message the table below does not allow ---------> CLOSED

Events may come at any time, on QEMU 7.2 also before the greeting. An id is ours, a small integer:
QEMU 7.2 reads its monitor byte by byte (`monitor_can_read` in monitor/monitor.c), some 4 us each,
so short lines are fast lines. A request stays in flight until it is answered, even if nobody
waits for the answer any longer; that is how a late answer is told from a wrong one.
"""

from __future__ import annotations

import enum
import itertools
from typing import TYPE_CHECKING, Any

import attrs
from qemu.qmp import models
from qemu.qmp.error import QMPError
from qemu.qmp.message import Message as Json

from qorch.qmp.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The largest answer of QEMU 7.2 is query-qmp-schema's 0.2 MiB; block graphs with hundreds of
# bitmaps reach a few MiB. A peer that sends no newline must not fill the host's memory.
MAX_LINE = 16 << 20


class State(enum.Enum):
    """Where the conversation stands."""

    WAITING_GREETING = "waiting for the greeting"
    NEGOTIATING = "negotiating capabilities"
    READY = "ready"
    CLOSED = "closed"


@attrs.frozen(kw_only=True)
class Greeting:
    """QEMU's first words: its version, (7, 2, 22), the distributor's name for it, capabilities."""

    version: tuple[int, int, int]
    package: str = ""
    capabilities: tuple[str, ...] = ()
    line: bytes = attrs.field(default=b"", eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened; `timestamp` is in seconds since the epoch by the host's clock."""

    name: str
    data: Mapping[str, Any] = attrs.field(factory=dict)
    timestamp: float
    line: bytes = attrs.field(default=b"", eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Reply:
    """The command of this id was done and returned `value`."""

    id: int
    value: Any
    line: bytes = attrs.field(default=b"", eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Failure:
    """The command of this id was refused."""

    id: int
    error_class: str
    text: str
    line: bytes = attrs.field(default=b"", eq=False, repr=False)


Message = Greeting | Reply | Failure | Event

# What may come in each state, and where it leads.
_NEXT: dict[State, dict[type[Message], State]] = {
    State.WAITING_GREETING: {
        Event: State.WAITING_GREETING,
        Greeting: State.NEGOTIATING,
    },
    State.NEGOTIATING: {
        Event: State.NEGOTIATING,
        Reply: State.READY,
        Failure: State.NEGOTIATING,
    },
    State.READY: {
        Event: State.READY,
        Reply: State.READY,
        Failure: State.READY,
    },
    State.CLOSED: {},
}


@attrs.define(eq=False)
class Session:
    """One side of one conversation, ours."""

    max_line: int = attrs.field(default=MAX_LINE, kw_only=True)
    state: State = attrs.field(default=State.WAITING_GREETING, init=False)
    _in_flight: dict[int, str] = attrs.field(factory=dict, init=False)
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)
    _buffer: bytearray = attrs.field(factory=bytearray, init=False)
    _searched: int = attrs.field(default=0, init=False)  # so far the buffer has no newline

    def receive(self, data: bytes) -> Iterator[Message]:
        """Take bytes as they came, cut anywhere, and yield the messages they complete.

        What is yielded before a ProtocolError is good; after it the session is closed.
        """
        if self.state is State.CLOSED:
            raise RuntimeError("the QMP session is closed")
        self._buffer += data
        return self._messages()

    def receive_eof(self) -> tuple[str, ...]:
        """Close the session; return the commands that were in flight, oldest first."""
        self.state = State.CLOSED
        self._buffer.clear()
        lost = tuple(self._in_flight.values())
        self._in_flight.clear()
        return lost

    def request(
        self, command: str, arguments: Mapping[str, object] | None = None
    ) -> tuple[int, bytes]:
        """Give the command an id; return both the id and the line to send.

        Raises TypeError or ValueError for arguments that are not JSON.
        """
        if self.state is not State.READY and not (
            self.state is State.NEGOTIATING and command == "qmp_capabilities"
        ):
            raise RuntimeError(f"{command} cannot be sent: the session is {self.state.value}")
        message: dict[str, object] = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        message["id"] = number = next(self._ids)
        line = bytes(Json(message)) + b"\n"
        self._in_flight[number] = command
        return number, line

    def withdraw(self, number: int) -> None:
        """Forget a request of which no byte was sent."""
        del self._in_flight[number]

    def _messages(self) -> Iterator[Message]:
        try:
            for line in self._lines():
                message = _parse(line)
                self._advance(message)
                yield message
        except ProtocolError:
            self.state = State.CLOSED
            self._buffer.clear()
            raise

    def _lines(self) -> Iterator[bytes]:
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            self._refuse_longer(end)
            line = bytes(self._buffer[:end]).strip()
            del self._buffer[: end + 1]
            self._searched = 0
            if line:
                yield line
        self._searched = len(self._buffer)
        self._refuse_longer(self._searched)

    def _refuse_longer(self, length: int) -> None:
        if length > self.max_line:
            raise ProtocolError(f"QEMU's monitor sent a line of more than {self.max_line} bytes")

    def _advance(self, message: Message) -> None:
        following = _NEXT[self.state].get(type(message))
        if following is None:
            raise _error(f"sent this while {self.state.value}", message.line)
        if isinstance(message, Reply | Failure) and self._in_flight.pop(message.id, None) is None:
            raise _error("answered what was not asked", message.line)
        self.state = following


def _error(what: str, line: bytes) -> ProtocolError:
    shown = line if len(line) <= 200 else line[:200] + b"..."
    return ProtocolError(f"QEMU's monitor {what}: {shown!r}", line=line)


def _parse(line: bytes) -> Message:
    try:
        return _message(Json(line), line)
    except (QMPError, ValueError, RecursionError) as error:
        raise _error("sent what is not a JSON object", line) from error
    except (KeyError, TypeError, OverflowError) as error:
        raise _error("sent what is not QMP", line) from error


def _message(json: Mapping[str, Any], line: bytes) -> Message:
    if "event" in json:
        return _event(json, line)
    if "return" in json:
        return Reply(id=_id(json), value=json["return"], line=line)
    if "error" in json:
        info = models.ErrorResponse(json).error
        if "id" not in json:  # QEMU could not even parse what we sent
            raise _error("could not read our command", line)
        return Failure(id=_id(json), error_class=info.class_, text=info.desc, line=line)
    return _greeting(json, line)


def _id(json: Mapping[str, Any]) -> int:
    number = json["id"]
    if type(number) is not int:  # True and 1.0 would find 1 in a dict
        raise TypeError(number)
    return number


def _event(json: Mapping[str, Any], line: bytes) -> Event:
    name, data, when = json["event"], json.get("data", {}), json["timestamp"]
    if not isinstance(name, str) or not isinstance(data, dict):
        raise TypeError(name, data)
    return Event(
        name=name,
        data=data,
        timestamp=when["seconds"] + when["microseconds"] / 1e6,
        line=line,
    )


def _greeting(json: Mapping[str, Any], line: bytes) -> Greeting:
    greeting = models.Greeting(json).QMP
    qemu: Any = greeting.version["qemu"]
    return Greeting(
        version=(int(qemu["major"]), int(qemu["minor"]), int(qemu["micro"])),
        package=str(greeting.version.get("package", "")),
        capabilities=tuple(str(name) for name in greeting.capabilities),
        line=line,
    )
