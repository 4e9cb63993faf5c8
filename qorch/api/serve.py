"""The control API on a socket that we bound, served by Hypercorn on trio.

Connections are accepted here and handed to Hypercorn one by one, not by its own server: that one
writes "Running on" to stderr, makes our socket inheritable, and cannot end while a client that
stopped reading holds one of its sends, which are shielded. Here we know the connections, and close
those that do not end by themselves.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import attrs
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from qorch.api.activity import Activity
from qorch.api.app import make_app
from qorch.api.door import CLOSE

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from qorch.api.protocol import Supervisor

GRACE = 0.5  # seconds at shutdown for answers on their way
KEEP_ALIVE = 30.0  # seconds that a connection may stay without a request

_log = logging.getLogger("qorch.api")


async def run_api(
    supervisor: Supervisor,
    listener: socket.socket,
    *,
    task_status: trio.TaskStatus[Activity] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API until cancelled; `listener` is ours to close.

    Started with the Activity that tells when nobody wants anything. When cancelled, verbs that run
    are cancelled and their clients told, streams end, and after GRACE seconds all connections.
    """
    activity = Activity()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_run_server, supervisor, listener, activity, stopping)
        task_status.started(activity)
        try:
            await trio.sleep_forever()
        finally:
            stopping.set()


async def _run_server(
    supervisor: Supervisor,
    listener: socket.socket,
    activity: Activity,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as connection_nursery:
            async with trio.open_nursery() as verb_nursery:
                app = make_app(
                    supervisor, activity=activity, stopping=stopping, verb_nursery=verb_nursery
                )
                connections = _Connections(app)
                trio_listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                verb_nursery.start_soon(_run_accept, trio_listener, connections, connection_nursery)
                task_status.started()
                await stopping.wait()
                verb_nursery.cancel_scope.cancel()
            await connections.end()
            connection_nursery.cancel_scope.cancel()


async def _run_accept(
    listener: trio.SocketListener, connections: _Connections, handler_nursery: trio.Nursery
) -> None:
    await trio.serve_listeners(connections.serve, [listener], handler_nursery=handler_nursery)


def _make_config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("qorch.api.http")
    config.errorlog.setLevel(logging.WARNING)
    config.keep_alive_timeout = KEEP_ALIVE
    config.keep_alive_max_requests = 1 << 30
    config.include_server_header = False
    return config


class _Server(TCPServer):
    """One connection, without what Hypercorn does once its client has left.

    It would keep the connection for another `keep_alive_timeout` and, after an upgrade to HTTP/2,
    for ever.
    """

    _left = False

    async def _read_data(self) -> None:
        self.protocol.protocol._check_protocol = _stay  # type: ignore[method-assign,union-attr]  # noqa: SLF001
        await super()._read_data()
        self._left = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Pass on what the protocol has to say, unless there is nobody to wait for any more."""
        if not (self._left and isinstance(event, Updated)):
            await super().protocol_send(event)


async def _stay(_request: object) -> None:
    pass


@attrs.define(eq=False)
class _Connections:
    app: Starlette
    _config: Config = attrs.field(factory=_make_config, init=False)
    _context: WorkerContext = attrs.field(factory=lambda: WorkerContext(None), init=False)
    _streams: set[trio.SocketStream] = attrs.field(factory=set, init=False)
    _none_left: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection; what goes wrong with it stays here."""
        state = ConnectionState({CLOSE: stream.aclose})
        server = _Server(
            ASGIWrapper(self.app),  # type: ignore[arg-type]  # the same protocol, other types
            self._config,
            self._context,
            state,
            stream,  # type: ignore[arg-type]  # it tells a socket from SSL by itself
        )
        with self._track(stream):
            try:
                await server.run()
            except* Exception:  # noqa: BLE001  logged
                _log.exception("a connection failed")

    async def end(self) -> None:
        """End the idle connections at once, the others within GRACE seconds."""
        await self._context.terminated.set()
        if self._streams:
            self._none_left = trio.Event()
            with trio.move_on_after(GRACE):
                await self._none_left.wait()
        for stream in self._streams:
            stream.socket.close()  # wakes even a send that is shielded

    @contextlib.contextmanager
    def _track(self, stream: trio.SocketStream) -> Iterator[None]:
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.remove(stream)
            if not self._streams:
                self._none_left.set()
