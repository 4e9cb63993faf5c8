"""What every request passes on its way in and out.

An answer may be ready before the request's body has come (it is too large, its path is wrong).
Hypercorn keeps what comes in a queue of ten pieces, and waits for a place in it even to say that
the request is over: nobody would ever take it. So whatever is left is thrown away while the answer
is sent, and the connection, whose next bytes are no request, is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from qorch.api.answer import stopping_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from qorch.api.activity import Activity

CLOSE = "qorch.close"  # in the connection's state: what closes the connection


@attrs.define(eq=False)
class Door:
    """Counts requests, refuses them at shutdown, and leaves the encoding of paths as it came."""

    app: ASGIApp
    activity: Activity
    stopping: trio.Event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI wants it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["path"] = scope["raw_path"].decode("latin-1")
        body = _Body(receive, left=_has_body(scope))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await body.answer(message, send, scope)
            else:
                await send(message)

        with self.activity.busy():
            app = stopping_answer() if self.stopping.is_set() else self.app
            await app(scope, body.receive, answer)


@attrs.define(eq=False)
class _Body:
    _receive: Receive
    left: bool

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self.left = False
        return message

    async def answer(self, message: Message, send: Send, scope: Scope) -> None:
        """Send the answer's last piece, and be rid of what is left of the request's body."""
        if not self.left:
            await send(message)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._discard)
            await send(message)
            await scope["state"][CLOSE]()
            nursery.cancel_scope.cancel()

    async def _discard(self) -> None:
        while True:
            await self._receive()


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
