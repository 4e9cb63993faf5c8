"""The API in the test's own event loop, and a client that can misbehave."""

import functools
import json

import attrs
import pytest
import trio

from qorch.api.rendezvous import open_listener
from qorch.api.serve import run_api


@attrs.define(eq=False)
class Answer:
    """One answer, wholly read."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def error(self):
        """The error that the body describes."""
        return self.json["error"]


@attrs.define(eq=False)
class Api:
    """The running API: `stop` cancels it, `ended` is set when it has ended."""

    state: object
    supervisor: object
    activity: object
    stop: object
    ended: trio.Event

    async def connect(self):
        """Open a connection."""
        return await trio.open_unix_socket(str(self.state.api_socket))

    async def send(self, raw):
        """Open a connection and send bytes."""
        stream = await self.connect()
        await stream.send_all(raw)
        return stream

    async def read(self, stream):
        """Read one answer, until the server closes."""
        return parse(await self.read_bytes(stream))

    async def read_bytes(self, stream):
        """Read whatever comes until the server closes."""
        data = b""
        try:
            while more := await stream.receive_some():
                data += more
        except trio.BrokenResourceError:
            pass
        await stream.aclose()
        return data

    async def ask(self, method, path, body=None):
        """Send one well-formed request, HTTP/1.0 so that the answer ends with the connection."""
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        head = f"{method} {path} HTTP/1.0\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        return await self.read(await self.send(head + data))


def parse(data):
    """Read one answer from bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(status.split()[1]) if status else 0, headers, body)


@pytest.fixture
async def api(state, fake):
    """The API of a fake supervisor, ended and gone after the test."""
    supervisor = fake.FakeSupervisor(state)
    listener = open_listener(state.api_socket)
    ended = trio.Event()

    async def run(*, task_status):
        with trio.CancelScope() as scope:
            started = functools.partial(_start, task_status, scope)
            async with trio.open_nursery() as nursery:
                started(await nursery.start(run_api, supervisor, listener))
        ended.set()

    async with trio.open_nursery() as nursery:
        activity, scope = await nursery.start(run)
        yield Api(state, supervisor, activity, scope.cancel, ended)
        supervisor.release.set()
        scope.cancel()
    assert listener.fileno() == -1
    assert activity.in_flight == 0
    assert not supervisor.consoles
    assert not supervisor.listeners


def _start(task_status, scope, activity):
    task_status.started((activity, scope))
