"""The control API as docs/api.md describes it, for one supervisor.

A verb runs in a task of `verb_nursery`, which belongs to the server and not to the request: a
client that leaves cancels nothing. Its steps go through a channel without a limit, because a verb
never waits for a client and reports few of them. Streams go the other way: they read from channels
that the supervisor bounds, and the client's slowness makes those overflow, which the supervisor
says in the stream itself.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qorch.api.answer import (
    Json,
    Stream,
    answering,
    describe_error,
    error_answer,
    make_line,
    stopping_answer,
    stopping_error,
)
from qorch.api.block import make_routes as make_block_routes
from qorch.api.body import (
    Field,
    read_directory,
    read_fields,
    read_flag,
    read_seconds,
    read_text,
    receive_piece,
)
from qorch.api.door import Door
from qorch.api.follow import write_log
from qorch.api.names import find_name
from qorch.api.networks import make_network_routes
from qorch.api.storage import make_storage_routes
from qorch.errors import InputError, MachineError, Problem
from qorch.load import load_text

if TYPE_CHECKING:
    from qorch.api.activity import Activity
    from qorch.api.protocol import Console, Supervisor
    from qorch.progress import Progress
    from qorch.spec import Spec

_DOCUMENT = {
    "text": Field(read_text),
    "directory": Field(read_directory),
    "file": Field(read_text, "vm.toml"),
}
_WAIT = {"wait": Field(read_seconds, None)}
_GRACE = {"grace": Field(read_seconds, None)}
_VOLUMES = {"volumes": Field(read_flag, False)}


def make_app(
    supervisor: Supervisor,
    *,
    activity: Activity,
    stopping: trio.Event,
    verb_nursery: trio.Nursery,
) -> Starlette:
    """Make the ASGI application. Once `stopping` is set, streams end and requests get a 503."""
    api = _Api(supervisor, activity, stopping, verb_nursery)
    routes = [
        Route(f"/v1{path}", answering(endpoint), methods=[method])
        for method, path, endpoint in (
            ("GET", "/supervisor", api.show_supervisor),
            ("GET", "/machines", api.find_machines),
            ("GET", "/machines/{name}", api.show_machine),
            ("POST", "/plan", api.plan),
            ("POST", "/up", api.up),
            ("POST", "/down", api.down),
            ("POST", "/machines/{name}/start", api.start_machine),
            ("POST", "/machines/{name}/stop", api.stop_machine),
            ("POST", "/machines/{name}/restart", api.restart_machine),
            ("POST", "/machines/{name}/kill", api.kill_machine),
            ("DELETE", "/machines/{name}", api.remove_machine),
            ("GET", "/machines/{name}/log", api.read_log),
            ("GET", "/machines/{name}/console", api.read_console),
            ("POST", "/machines/{name}/console", api.write_console),
            ("GET", "/events", api.read_events),
            ("POST", "/gc", api.remove_leftovers),
            *make_network_routes(supervisor.networks, api.run_verb),
            *make_storage_routes(supervisor.storage, api.run_verb, stopping),
            *make_block_routes(supervisor.block, api.run_verb, stopping),
        )
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Door, activity=activity, stopping=stopping)],
        exception_handlers={HTTPException: _answer_http_exception},
    )
    app.router.redirect_slashes = False
    return app


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    return error_answer(error)


@attrs.define(eq=False)
class _Api:
    supervisor: Supervisor
    activity: Activity
    stopping: trio.Event
    verb_nursery: trio.Nursery

    async def show_supervisor(self, _request: Request) -> Response:
        state = self.supervisor.state
        return Json(
            {
                "version": _version(),
                "pid": os.getpid(),
                "state": {"run": state.run, "data": state.data},
                "owner": state.owner,
            }
        )

    async def find_machines(self, _request: Request) -> Response:
        return Json(self.supervisor.find_machines())

    async def show_machine(self, request: Request) -> Response:
        return Json(await self.supervisor.show_machine(find_name(request)))

    async def plan(self, request: Request) -> Response:
        flags = {key: Field(read_flag, default=False) for key in ("down", "notes")}
        fields = await read_fields(request, _DOCUMENT | flags)
        notes: list[Progress] = []
        plan = functools.partial(self.supervisor.plan, down=fields["down"], report=notes.append)
        changes = await plan(await _load(fields))
        rows = [attrs.asdict(change) for change in changes]
        if not fields["notes"]:
            return Json(rows)
        return Json({"changes": rows, "notes": [_describe_progress(note) for note in notes]})

    async def up(self, request: Request) -> Response | Stream:
        restart = {"restart": Field(read_flag, default=False)}
        fields = await read_fields(request, _DOCUMENT | _WAIT | restart)
        verb = functools.partial(self.supervisor.up, await _load(fields))
        return self.run_verb(verb, wait=fields["wait"], restart=fields["restart"])

    async def down(self, request: Request) -> Response | Stream:
        fields = await read_fields(request, _DOCUMENT | _VOLUMES)
        verb = functools.partial(self.supervisor.down, await _load(fields))
        return self.run_verb(verb, volumes=fields["volumes"])

    async def remove_leftovers(self, _request: Request) -> Response | Stream:
        return self.run_verb(self.supervisor.remove_leftovers)

    async def start_machine(self, request: Request) -> Response | Stream:
        return await self._run_on_machine(self.supervisor.start_machine, request, _WAIT)

    async def stop_machine(self, request: Request) -> Response | Stream:
        return await self._run_on_machine(self.supervisor.stop_machine, request, _GRACE)

    async def restart_machine(self, request: Request) -> Response | Stream:
        return await self._run_on_machine(self.supervisor.restart_machine, request, _GRACE | _WAIT)

    async def kill_machine(self, request: Request) -> Response | Stream:
        return await self._run_on_machine(self.supervisor.kill_machine, request, {})

    async def remove_machine(self, request: Request) -> Response | Stream:
        return await self._run_on_machine(self.supervisor.remove_machine, request, _VOLUMES)

    async def read_log(self, request: Request) -> Stream:
        query = request.query_params
        path = self.supervisor.find_log(find_name(request))
        lines = _read_count(query["lines"]) if "lines" in query else None
        follow = _read_switch(query.get("follow", "false"))

        async def pump(stream: Stream) -> None:
            await stream.start()
            await write_log(path, stream.write, lines=lines, follow=follow)

        return Stream(pump, self.stopping)

    async def read_console(self, request: Request) -> Stream:
        name = find_name(request)

        async def pump(stream: Stream) -> None:
            with self.supervisor.open_console(name) as console:
                await stream.start()
                async for data in console:
                    await stream.write(data)

        return Stream(pump, self.stopping)

    async def write_console(self, request: Request) -> Response:
        with self.supervisor.open_console(find_name(request)) as console:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, self.stopping, nursery.cancel_scope)
                more = True
                while more:
                    data, more = await receive_piece(request)
                    await _type(console, data)
                nursery.cancel_scope.cancel()
        return Response(status_code=204)

    async def read_events(self, request: Request) -> Stream:
        machine = request.query_params.get("machine")

        async def pump(stream: Stream) -> None:
            with self.supervisor.open_events(machine) as events:
                await stream.start()
                async for event in events:
                    await stream.write(make_line(event))

        return Stream(pump, self.stopping, "application/x-ndjson")

    async def _run_on_machine(
        self, verb: Callable[..., Awaitable[None]], request: Request, fields: dict[str, Field]
    ) -> Response | Stream:
        name = find_name(request)
        return self.run_verb(functools.partial(verb, name), **await read_fields(request, fields))

    def run_verb(self, verb: Callable[..., Awaitable[None]], **options: Any) -> Response | Stream:
        """Start a verb, and answer with its progress."""
        if self.stopping.is_set():
            return stopping_answer()
        send, receive = trio.open_memory_channel[bytes](math.inf)
        self.verb_nursery.start_soon(self._run_verb, functools.partial(verb, **options), send)

        async def pump(stream: Stream) -> None:
            with receive:
                async for line in receive:
                    await stream.write(line)

        return Stream(pump, trio.Event(), "application/x-ndjson")

    async def _run_verb(
        self, verb: Callable[..., Awaitable[None]], channel: trio.MemorySendChannel[bytes]
    ) -> None:
        def tell(what: dict[str, Any]) -> None:
            # The client has left, or the verb has and something goes on in the background.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                channel.send_nowait(make_line(what))

        with self.activity.busy(), channel:
            try:
                await verb(report=lambda progress: tell(_describe_progress(progress)))
            except trio.Cancelled:
                tell({"type": "error", "error": stopping_error()})
                raise
            except Exception as error:  # noqa: BLE001  described to the client, or logged
                tell({"type": "error", "error": describe_error(error)})
            else:
                tell({"type": "done"})


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _type(console: Console, data: bytes) -> None:
    try:
        await console.send(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise MachineError(
            "the machine has ended, and its console with it", "qorch log NAME"
        ) from None


async def _load(fields: dict[str, Any]) -> Spec:
    """Make the spec in a thread: a large document takes long."""
    text, directory, file = fields["text"], Path(fields["directory"]), fields["file"]
    try:
        return await trio.to_thread.run_sync(load_text, text, directory, file)
    except RecursionError:
        raise InputError(f"{file} is nested too deeply") from None


def _read_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputError.from_problems([Problem("lines", f"{text!r} is not a number of lines")])
    return int(text)


def _read_switch(text: str) -> bool:
    if text not in {"true", "false"}:
        raise InputError.from_problems([Problem("follow", f"{text!r} is not true or false")])
    return text == "true"


def _describe_progress(progress: Progress) -> dict[str, str]:
    subject = {"kind": progress.kind, "name": progress.name}
    if progress.message:
        return {"type": "note", **subject, "message": progress.message}
    return {"type": "step", **subject, "step": progress.step}


@functools.cache
def _version() -> str:
    return importlib.metadata.version("qorch")
