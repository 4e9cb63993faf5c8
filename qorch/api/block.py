"""The requests about machines' disks: snapshots, jobs, moves and what else goes on live."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import attrs

from qorch.api.answer import Endpoint, Json, Stream, describe_error, make_line
from qorch.api.body import Field, read_directory, read_fields, read_flag, read_text
from qorch.api.names import find_name
from qorch.block.commands import LIMITS
from qorch.errors import InputError, Problem, QorchError
from qorch_storage.errors import StorageError

if TYPE_CHECKING:
    import trio
    from starlette.requests import Request
    from starlette.responses import Response

    from qorch.api.protocol import Block

    RunVerb = Callable[..., Response | Stream]


def read_maybe_flag(value: object) -> bool | None:
    """Either true or false, or null."""
    return None if value is None else read_flag(value)


def read_maybe_text(value: object) -> str | None:
    """Text, or null."""
    return None if value is None else read_text(value)


def _read_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is not a whole number")  # noqa: TRY004  wrong input, not a wrong call
    if not 0 <= value < 1 << 63:
        raise ValueError("is no number of bytes or requests")
    return value


def _read_limits(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")  # noqa: TRY004
    unknown = [key for key in value if key not in LIMITS]
    if unknown:
        raise ValueError(f"has the unknown limit {unknown[0]!r}; known are {', '.join(LIMITS)}")
    return {key: _read_number(number) for key, number in value.items()}


def _read_maybe_path(value: object) -> Path | None:
    return None if value is None else _read_path(value)


def _read_path(value: object) -> Path:
    return Path(read_directory(value))


def make_routes(
    block: Block, run_verb: RunVerb, stopping: trio.Event
) -> list[tuple[str, str, Endpoint]]:
    """Method, path and endpoint of each request."""
    api = _Api(block, run_verb, stopping)
    machine = "/machines/{name}"
    return [
        ("GET", f"{machine}/snapshots", api.find_snapshots),
        ("POST", f"{machine}/snapshots/{{snapshot}}", api.create_snapshot),
        ("DELETE", f"{machine}/snapshots/{{snapshot}}", api.remove_snapshot),
        ("POST", f"{machine}/snapshots/{{snapshot}}/revert", api.revert_snapshot),
        ("POST", f"{machine}/disks/{{disk}}/move", api.move_disk),
        ("POST", f"{machine}/disks/{{disk}}/flatten", api.flatten_disk),
        ("POST", f"{machine}/disks/{{disk}}/resize", api.grow_disk),
        ("POST", f"{machine}/disks/{{disk}}/throttle", api.limit_disk),
        ("POST", f"{machine}/disks/{{disk}}/medium", api.change_medium),
        ("GET", f"{machine}/backups", api.find_backups),
        ("POST", f"{machine}/backups", api.create_backup),
        ("POST", f"{machine}/backups/restore", api.restore_backup),
        ("POST", f"{machine}/export", api.serve_backup),
        ("DELETE", f"{machine}/export", api.end_export),
        ("POST", f"{machine}/pause", api.pause_machine),
        ("POST", f"{machine}/resume", api.resume_machine),
        ("GET", "/jobs", api.find_jobs),
        ("DELETE", f"{machine}/jobs", api.cancel_job),
    ]


@attrs.define(eq=False)
class _Api:
    block: Block
    run_verb: RunVerb
    stopping: trio.Event

    async def find_snapshots(self, request: Request) -> Response:
        return Json(self.block.find_snapshots(find_name(request)))

    async def create_snapshot(self, request: Request) -> Response | Stream:
        return await self._run_on_snapshot(
            self.block.create_snapshot,
            request,
            description=Field(read_text, ""),
            freeze=Field(read_maybe_flag, None),
            memory=Field(read_flag, default=False),
        )

    async def revert_snapshot(self, request: Request) -> Response | Stream:
        return await self._run_on_snapshot(
            self.block.revert_snapshot, request, memory=Field(read_flag, default=True)
        )

    async def remove_snapshot(self, request: Request) -> Response | Stream:
        return await self._run_on_snapshot(self.block.remove_snapshot, request)

    async def move_disk(self, request: Request) -> Response | Stream:
        return await self._run_on_disk(
            self.block.move_disk,
            request,
            pool=Field(read_text),
            image_format=Field(read_maybe_text, None),
        )

    async def flatten_disk(self, request: Request) -> Response | Stream:
        return await self._run_on_disk(self.block.flatten_disk, request)

    async def grow_disk(self, request: Request) -> Response | Stream:
        return await self._run_on_disk(self.block.grow_disk, request, size=Field(_read_number))

    async def limit_disk(self, request: Request) -> Response | Stream:
        return await self._run_on_disk(self.block.limit_disk, request, limits=Field(_read_limits))

    async def change_medium(self, request: Request) -> Response | Stream:
        return await self._run_on_disk(
            self.block.change_medium,
            request,
            path=Field(_read_maybe_path, None),
            force=Field(read_flag, False),
        )

    async def find_backups(self, request: Request) -> Response:
        directory = request.query_params.get("directory", "")
        try:
            path = Path(read_directory(directory))
        except ValueError as error:
            raise InputError.from_problems([Problem("directory", str(error))]) from None
        return Json(await self.block.find_backups(find_name(request), path))

    async def create_backup(self, request: Request) -> Response | Stream:
        fields = {
            "directory": Field(_read_path),
            "incremental": Field(read_flag, default=False),
            "freeze": Field(read_maybe_flag, None),
        }
        verb = functools.partial(self.block.create_backup, find_name(request))
        return self.run_verb(verb, **await read_fields(request, fields))

    async def restore_backup(self, request: Request) -> Response | Stream:
        fields = {"directory": Field(_read_path), "backup_id": Field(read_text)}
        verb = functools.partial(self.block.restore_backup, find_name(request))
        return self.run_verb(verb, **await read_fields(request, fields))

    async def serve_backup(self, request: Request) -> Stream:
        """Serve for as long as the client stays."""
        fields = {
            "socket": Field(_read_path),
            "since": Field(read_maybe_text, None),
            "checkpoint": Field(read_maybe_text, None),
            "freeze": Field(read_maybe_flag, None),
        }
        values = await read_fields(request, fields)
        name = find_name(request)

        async def pump(stream: Stream) -> None:
            try:
                async with self.block.open_export(name, **values) as export:
                    await stream.write(make_line({"type": "ready", "disks": export.disks}))
                    await export.over.wait()
            except (QorchError, StorageError) as error:
                await stream.write(make_line({"type": "error", "error": describe_error(error)}))
            else:
                await stream.write(make_line({"type": "done"}))

        return Stream(pump, self.stopping, "application/x-ndjson")

    async def end_export(self, request: Request) -> Response:
        await self.block.end_export(find_name(request))
        return Json({})

    async def pause_machine(self, request: Request) -> Response | Stream:
        return self.run_verb(functools.partial(self.block.pause_machine, find_name(request)))

    async def resume_machine(self, request: Request) -> Response | Stream:
        return self.run_verb(functools.partial(self.block.resume_machine, find_name(request)))

    async def find_jobs(self, _request: Request) -> Response:
        return Json(await self.block.find_jobs())

    async def cancel_job(self, request: Request) -> Response:
        fields = await read_fields(request, {"job": Field(read_maybe_text, None)})
        await self.block.cancel_job(find_name(request), fields["job"])
        return Json({})

    async def _run_on_snapshot(
        self, verb: Callable[..., Awaitable[Any]], request: Request, **fields: Field
    ) -> Response | Stream:
        # What a snapshot may be called is said with the reason, not as "there is none".
        name, snapshot = find_name(request), unquote(request.path_params["snapshot"])
        values = await read_fields(request, fields)
        return self.run_verb(functools.partial(verb, name, snapshot), **values)

    async def _run_on_disk(
        self, verb: Callable[..., Awaitable[Any]], request: Request, **fields: Field
    ) -> Response | Stream:
        name, disk = find_name(request), unquote(request.path_params["disk"])
        values = await read_fields(request, fields)
        return self.run_verb(functools.partial(verb, name, disk), **values)
