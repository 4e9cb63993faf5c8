"""Answers: JSON, errors as JSON, and bodies that go on for as long as there is something to say."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from qorch.errors import InputError, NotFoundError, QorchError
from qorch_net.errors import NetError
from qorch_storage.errors import MissingError, StorageError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_log = logging.getLogger("qorch.api")
_STATUS = {"input": 400, "not-found": 404, "failed": 500}
_STOPPING = "the supervisor is shutting down"


class Json(Response):
    """An answer that is known at once. What JSON lacks (addresses, paths) goes as its text."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Make the body; the base class calls this."""
        return json.dumps(content, default=str).encode()


@attrs.define(eq=False)
class Stream:
    """An answer written piece by piece: until `pump` is done, the client leaves or the API stops.

    Errors before the first `start` or `write` are answered as such. A stream whose `length` is
    known says so, and a client can tell one that was cut off.
    """

    pump: Callable[[Stream], Awaitable[None]]
    stopping: trio.Event
    media_type: str = "application/octet-stream"
    length: int | None = None
    _send: Send = attrs.field(init=False)
    _started: bool = attrs.field(default=False, init=False)

    async def start(self) -> None:
        """Send the head, so that the client knows that the stream is open."""
        if not self._started:
            self._started = True
            headers = [(b"content-type", self.media_type.encode())]
            if self.length is not None:
                headers.append((b"content-length", b"%d" % self.length))
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a piece, and wait for a client that is slow."""
        await self.start()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as Starlette wants it."""
        self._send = send
        try:
            left = await self._run(receive)
        except Exception as error:
            if self._started:
                raise  # the connection ends in the middle, which is what the client should see
            await error_answer(error)(scope, receive, send)
            return
        if not left:
            await self.start()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, receive: Receive) -> bool:
        failure: Exception | None = None
        left = False

        async def pump() -> None:
            nonlocal failure
            try:
                await self.pump(self)
            except Exception as error:  # noqa: BLE001  raised below, without the nursery's group
                failure = error
            nursery.cancel_scope.cancel()

        async def wait_leave() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump)
            nursery.start_soon(wait_leave)
            await self.stopping.wait()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return left


def make_line(what: dict[str, Any]) -> bytes:
    """One line of a stream of JSON lines."""
    return json.dumps(what, default=str).encode() + b"\n"


def error_answer(error: Exception) -> Json:
    """Answer with an error and the HTTP status of its kind."""
    described = describe_error(error)
    status = error.status_code if isinstance(error, HTTPException) else _STATUS[described["kind"]]
    return Json({"error": described}, status)


def stopping_answer() -> Json:
    """Tell the client to ask the next supervisor."""
    return Json({"error": stopping_error()}, 503)


def stopping_error() -> dict[str, Any]:
    """Describe why a verb was not finished."""
    hint = "run the same command again: it goes on where it stopped"
    return {"kind": "failed", "message": _STOPPING, "hint": hint, "problems": []}


def describe_error(error: Exception) -> dict[str, Any]:
    """Put an error into the words of the API; one we did not foresee goes to the log."""
    match error:
        case InputError(message=message, hint=hint, problems=problems):
            described = [attrs.asdict(problem) for problem in problems]
            return _describe("input", message, hint, described)
        case NotFoundError(message=message, hint=hint) | MissingError(message=message, hint=hint):
            return _describe("not-found", message, hint)
        case QorchError() | NetError() | StorageError():
            return _describe("failed", error.message, error.hint)
        case HTTPException(status_code=status):
            kind = "not-found" if status == 404 else "input"
            return _describe(kind, f"the control API says: {error.detail}")
        case ExceptionGroup():
            return _describe_group(error)
    return _describe_internal(error)


def _describe_internal(error: Exception) -> dict[str, Any]:
    if isinstance(error, OSError) and error.strerror:
        about = f"{error.filename}: " if error.filename else ""
        return _describe("failed", f"{about}{error.strerror}", "see space and rights there")
    _log.error("internal error", exc_info=error)
    reason = " ".join(str(error).split()) or type(error).__name__
    return _describe("failed", f"internal error: {reason}", "the supervisor's log says more")


def _describe_group(group: ExceptionGroup[Exception]) -> dict[str, Any]:
    """Several things went wrong at once: each is a problem of its own, the first gives the kind."""
    described = [describe_error(error) for error in group.exceptions]
    if len(described) == 1:
        return described[0]
    problems = [
        problem
        for each in described
        for problem in each["problems"]
        or [{"path": "", "message": each["message"], "hint": each["hint"]}]
    ]
    message = "\n".join(each["message"] for each in described)
    hints = dict.fromkeys(each["hint"] for each in described if each["hint"])
    return _describe(described[0]["kind"], message, "\n".join(hints) or None, problems)


def _describe(
    kind: str, message: str, hint: str | None = None, problems: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {"kind": kind, "message": message, "hint": hint, "problems": problems or []}


Endpoint = Callable[[Request], Awaitable[Response | Stream]]


def answering(endpoint: Endpoint) -> Callable[[Request], Awaitable[Any]]:
    """Make an endpoint that answers errors instead of raising them."""

    async def answer(request: Request) -> Response | Stream:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001  described to the client, or logged
            return error_answer(error)

    return answer
