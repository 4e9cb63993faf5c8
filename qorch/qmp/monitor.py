"""The pump between a QEMU monitor's socket and the tasks that use it.

One task reads and hands out: answers to the calls that wait for them, events to the listeners.
Callers write themselves, one at a time. What makes this more than a loop is cancellation, which
may hit a caller at three points:

- before a byte of its line went out: the command is withdrawn, QEMU never sees it;
- in the middle of its line, because QEMU does not read: the rest stays in `_unsent` and the next
  caller sends it first, for half a line followed by another line would be garbage;
- while it waits for the answer: the call is forgotten. The session still knows the id, so the
  late answer is dropped as what it is.

In the last two cases the command may take effect although its caller has left.

Whatever ends the connection is kept as the loss: calls in flight, later calls and listeners all
raise it, each its own copy. The reading task itself ends quietly, for a machine that is being
stopped loses its monitor as a matter of course, and that must not cancel those who stop it.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

from qorch.qmp.errors import CommandError, ConnectError, MonitorLostError, ProtocolError
from qorch.qmp.listener import Listener
from qorch.qmp.session import Event, Failure, Greeting, Message, Reply, Session, State
from qorch.sockets import connect_unix

_ENDED = "it has ended, or is about to: qorch events, and its qemu.log, say why"

# Called with every line as it goes out or comes in, without its newline; must not raise.
Transcript = Callable[[Literal["sent", "received"], bytes], None]


@asynccontextmanager
async def open_monitor(
    where: Path | trio.SocketStream, *, transcript: Transcript | None = None
) -> AsyncIterator[Monitor]:
    """Connect to a QEMU monitor, negotiate, and read from it until the block ends.

    The socket's path may be of any length. A stream is closed with the block. The greeting is
    waited for as long as the caller likes: QEMU's socket accepts before its main loop runs, and
    it serves one client at a time.

    Raises ConnectError, and MonitorLostError or CommandError if the negotiation fails. An error
    of the block comes out as itself; the loss of the monitor does not end the block.
    """
    stream = _connect(where) if isinstance(where, Path) else where
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            monitor = Monitor(stream, transcript)
            await nursery.start(monitor.run)
            yield monitor
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _sole(group)
    if error is not None:  # raised out here, or the group would become the error's context
        raise error


async def run_monitor(
    stream: trio.SocketStream,
    *,
    transcript: Transcript | None = None,
    task_status: trio.TaskStatus[Monitor] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Do as `open_monitor` does, as a task: started with a Monitor, it ends with the connection."""
    await Monitor(stream, transcript).run(task_status=task_status)


@attrs.define(eq=False)
class _Call:
    command: str
    outcome: Reply | Failure | MonitorLostError | None = None
    answered: trio.Event = attrs.field(factory=trio.Event)

    def answer(self, outcome: Reply | Failure | MonitorLostError) -> None:
        self.outcome = outcome
        self.answered.set()

    def result(self) -> Any:
        match self.outcome:
            case Reply():
                return self.outcome.value
            case Failure(error_class=error_class, text=text):
                raise CommandError.from_reply(self.command, error_class, text)
            case MonitorLostError():
                raise _lost(self.outcome, self.command) from self.outcome.__cause__
            case None:
                raise AssertionError(self)


@attrs.define(eq=False)
class Monitor:
    """A QEMU monitor that answers; any number of tasks may use it at once."""

    _stream: trio.SocketStream
    _transcript: Transcript | None = None
    greeting: Greeting = attrs.field(init=False)  # there once `run` has started
    _session: Session = attrs.field(factory=Session, init=False)
    _calls: dict[int, _Call] = attrs.field(factory=dict, init=False)
    _listeners: set[Listener] = attrs.field(factory=set, init=False)
    _sending: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _unsent: memoryview = attrs.field(default=memoryview(b""), init=False)
    _loss: MonitorLostError | None = attrs.field(default=None, init=False)
    _closed: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version, such as (7, 2, 22): `monitor.version >= (8, 0, 0)`."""
        return self.greeting.version

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        fds: Sequence[int] = (),
    ) -> Any:
        """Have QEMU do one command and return what it returns.

        The fds (for `getfd` and `add-fd`; QEMU takes at most 16 at once) travel with the command
        and stay the caller's to close. A cancelled command may still take effect.

        Raises CommandError or its subclass for QEMU's error class, MonitorLostError, TypeError or
        ValueError for arguments that are not JSON, OSError for an fd that is not open.
        """
        call = await self._call(command, arguments, fds)
        return call.result()

    async def quit(self) -> None:
        """Tell QEMU to end at once, without asking the guest.

        QEMU's answer races with the end of the connection; once the command is sent, either is
        success (`execute("quit")` would raise MonitorLostError for the latter). QEMU may live
        some milliseconds longer: wait for its process.

        Raises MonitorLostError if the connection was gone before, ProtocolError, CommandError.
        """
        call = await self._call("quit")
        if type(call.outcome) is not MonitorLostError:
            call.result()

    @contextmanager
    def listen(self, *names: str) -> Iterator[Listener]:
        """Listen to events of these names, or to all; open it before what causes them.

        What came before, also between the negotiation and now, is not seen: ask for the state
        after opening a listener, not before.
        """
        listener = Listener(frozenset(names))
        if self._loss is not None:
            listener.end(self._loss)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            listener.close()

    async def wait_closed(self) -> MonitorLostError:
        """Wait until the connection is gone; return why."""
        while self._loss is None:
            await self._closed.wait()
        return self._loss

    def close(self) -> None:
        """Let go of QEMU, so that its monitor takes the next client; calls in flight are lost."""
        self._lose(MonitorLostError("the monitor was closed on our side"))

    async def run(
        self, *, task_status: trio.TaskStatus[Monitor] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Negotiate, report started, and read until the connection is gone."""
        with closing(self):
            await self._negotiate()
            task_status.started(self)
            while self._loss is None:
                await self._receive()

    async def _negotiate(self) -> None:
        while self._session.state is State.WAITING_GREETING:
            await self._receive()
        _, call = await self._send("qmp_capabilities")
        while not call.answered.is_set():
            await self._receive()
        call.result()

    async def _receive(self) -> None:
        """Read once and hand out what came: messages, or the loss of the connection."""
        try:
            data = await self._stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if self._loss is not None:  # closed on our side while this was being read
            return
        if not data:
            self._lose(MonitorLostError("QEMU closed its monitor", _ENDED))
            return
        try:
            for message in self._session.receive(data):
                self._record("received", message.line)
                self._hand_out(message)
        except ProtocolError as error:
            self._record("received", error.line)
            self._lose(error)

    def _hand_out(self, message: Message) -> None:
        match message:
            case Event():
                for listener in self._listeners:
                    listener.offer_nowait(message)
            case Reply() | Failure():
                if (call := self._calls.pop(message.id, None)) is not None:
                    call.answer(message)
            case Greeting():
                self.greeting = message

    def _lose(self, loss: MonitorLostError) -> None:
        if self._loss is not None:
            return
        self._loss = loss
        self._session.receive_eof()
        self._stream.socket.close()
        for call in self._calls.values():
            call.answer(loss)
        for listener in self._listeners:
            listener.end(loss)
        self._closed.set()

    async def _call(
        self, command: str, arguments: Mapping[str, object] | None = None, fds: Sequence[int] = ()
    ) -> _Call:
        number, call = await self._send(command, arguments, fds)
        try:
            await call.answered.wait()
        finally:
            self._calls.pop(number, None)
        return call

    async def _send(
        self, command: str, arguments: Mapping[str, object] | None = None, fds: Sequence[int] = ()
    ) -> tuple[int, _Call]:
        async with self._sending:
            self._refuse_lost(command)
            await self._flush(command)
            self._refuse_lost(command)
            number, line = self._session.request(command, arguments)
            call = self._calls[number] = _Call(command)
            self._unsent = memoryview(line)
            self._record("sent", line[:-1])
            try:
                await self._flush(command, fds)
            except BaseException:
                self._calls.pop(number, None)
                if len(self._unsent) == len(line) and self._loss is None:
                    self._unsent = memoryview(b"")
                    self._session.withdraw(number)
                raise
        return number, call

    async def _flush(self, command: str, fds: Sequence[int] = ()) -> None:
        """Send what is unsent, the fds with its first byte; what a cancellation leaves is kept."""
        sock = self._stream.socket
        try:
            if fds:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds).tobytes())
                self._unsent = self._unsent[await sock.sendmsg([self._unsent], [rights]) :]
            while self._unsent:
                self._unsent = self._unsent[await sock.send(self._unsent) :]
        except (ConnectionError, trio.ClosedResourceError) as error:
            self._refuse_lost(command)
            raise _lost(MonitorLostError("QEMU closed its monitor", _ENDED), command) from error
        except OSError:
            self._refuse_lost(command)
            raise

    def _refuse_lost(self, command: str) -> None:
        if self._loss is not None:
            raise _lost(self._loss, command) from self._loss.__cause__

    def _record(self, direction: Literal["sent", "received"], line: bytes) -> None:
        if self._transcript is not None:
            self._transcript(direction, line)


def _lost(loss: MonitorLostError, command: str) -> MonitorLostError:
    return attrs.evolve(loss, message=f"{command}: {loss.message}", command=command)


def _sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error of a group that is not Cancelled, or the group if there are several."""
    errors = [error for error in group.exceptions if not isinstance(error, trio.Cancelled)]
    if len(errors) > 1:
        return group
    return errors[0] if errors else group.exceptions[0]


def _connect(path: Path) -> trio.SocketStream:
    try:
        sock = connect_unix(path)
    except OSError as error:
        raise ConnectError(f"no QEMU monitor answers at {path}: {error.strerror}") from error
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))
