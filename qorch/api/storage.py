"""The requests about pools and volumes."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import attrs
import trio

from qorch.api.answer import Endpoint, Json, Stream
from qorch.api.body import (
    Field,
    read_directory,
    read_fields,
    read_flag,
    read_text,
    read_values,
    receive_piece,
)
from qorch.api.names import find_name
from qorch.errors import InputError, Problem
from qorch_storage.copies import Copy, Mode
from qorch_storage.errors import StorageError
from qorch_storage.plan import (
    Backing,
    Compression,
    ImageFormat,
    Preallocation,
    VolumePlan,
    find_format,
)
from qorch_storage.qemu_img import Source

if TYPE_CHECKING:
    from enum import Enum

    from starlette.requests import Request
    from starlette.responses import Response

    from qorch.api.protocol import Storage

    RunVerb = Callable[..., Response | Stream]

T = TypeVar("T")

_PIECE = 1 << 18  # bytes of a download sent at once
_ROOM = 1 << 63


def read_size(value: object) -> int:
    """A number of bytes."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is not a number of bytes")  # noqa: TRY004  wrong input
    if not 0 <= value < _ROOM:
        raise ValueError("is no possible number of bytes")
    return value


def read_path(value: object) -> Path:
    """An absolute path."""
    return Path(read_directory(value))


def one_of(kind: type[Enum]) -> Callable[[object], Any]:
    """One of an enumeration's values."""

    def read(value: object) -> Any:
        known = {member.value: member for member in kind}
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"is none of {', '.join(known)}")
        return known[value]

    return read


def maybe(read: Callable[[object], Any]) -> Field:
    """What may be left out, or null."""
    return Field(lambda value: None if value is None else read(value), None)


_FORMAT = {"format": maybe(one_of(ImageFormat))}
_OPTIONS = {  # of a volume that is made
    **_FORMAT,
    "preallocation": Field(one_of(Preallocation), "off"),
    "cluster_size": maybe(read_size),
    "compression": maybe(one_of(Compression)),
    "lazy_refcounts": Field(read_flag, default=False),
    "passphrase_file": maybe(read_path),
}
_BACKING = {"backing": maybe(read_path), "backing_format": maybe(one_of(ImageFormat))}
_COMPRESS = {"compress": Field(read_flag, default=False)}
_SOURCE_PASSPHRASE = {"source_passphrase_file": maybe(read_path)}


def make_storage_routes(
    storage: Storage, run_verb: RunVerb, stopping: trio.Event
) -> list[tuple[str, str, Endpoint]]:
    """Method, path and endpoint of each request; `run_verb` starts a verb and tells its steps."""
    api = _StorageApi(storage, run_verb, stopping)
    volume = "/pools/{pool}/volumes/{volume}"
    return [
        ("GET", "/pools", api.find_pools),
        ("GET", "/pools/{pool}", api.show_pool),
        ("GET", "/volumes", api.find_volumes),
        ("GET", "/volumes/tree", api.find_tree),
        ("GET", volume, api.show_volume),
        ("POST", volume, api.create),
        ("DELETE", volume, api.remove),
        ("POST", f"{volume}/resize", api.resize),
        ("POST", f"{volume}/copy", api.copy),
        ("POST", f"{volume}/import", api.import_file),
        ("POST", f"{volume}/export", api.export_file),
        ("POST", f"{volume}/check", api.check),
        ("POST", f"{volume}/rename", api.rename),
        ("POST", f"{volume}/wipe", api.wipe),
        ("GET", f"{volume}/content", api.download),
        ("POST", f"{volume}/content", api.upload),
    ]


@attrs.define(eq=False)
class _StorageApi:
    storage: Storage
    run_verb: RunVerb
    stopping: trio.Event

    async def find_pools(self, _request: Request) -> Response:
        return Json(await self.storage.find_pools())

    async def show_pool(self, request: Request) -> Response:
        return Json(await self.storage.show_pool(find_name(request, "pool", "pool")))

    async def find_volumes(self, request: Request) -> Response:
        return Json(await self.storage.find_volumes(request.query_params.get("pool")))

    async def find_tree(self, _request: Request) -> Response:
        return Json(await self.storage.find_tree())

    async def show_volume(self, request: Request) -> Response:
        return Json(await self.storage.show_volume(*_find_volume(request)))

    async def create(self, request: Request) -> Response | Stream:
        pool, name = _find_volume(request)
        fields = await read_fields(request, {**_OPTIONS, **_BACKING, "size": maybe(read_size)})
        backing, backing_format = fields.pop("backing"), fields.pop("backing_format")
        if backing is not None:
            backing = Backing(path=backing, format=_need_format(backing_format, backing))
        fields["format"] = fields["format"] or self.storage.find_format(pool)
        plan = _make(VolumePlan, pool=pool, name=name, backing=backing, **fields)
        return self.run_verb(functools.partial(self.storage.create, plan))

    async def resize(self, request: Request) -> Response | Stream:
        fields = {"size": Field(read_size), "force": Field(read_flag, default=False)}
        return await self._run(self.storage.resize, request, fields)

    async def copy(self, request: Request) -> Response | Stream:
        pool, name = _find_volume(request)
        where = {"to_pool": maybe(read_text), "to": Field(read_text)}
        mode = {"mode": Field(one_of(Mode), "full")}
        fields = await read_fields(
            request, where | mode | _OPTIONS | _COMPRESS | _SOURCE_PASSPHRASE
        )
        to_pool, to = fields.pop("to_pool") or pool, fields.pop("to")
        passphrase_file = fields.pop("source_passphrase_file")
        kind = Mode(fields.pop("mode"))
        copy = _make(Copy, pool=to_pool, name=to, **fields)
        verb = functools.partial(self.storage.copy, pool, name, copy)
        return self.run_verb(verb, mode=kind, passphrase_file=passphrase_file)

    async def import_file(self, request: Request) -> Response | Stream:
        pool, name = _find_volume(request)
        where = {"path": Field(read_path), "source_format": maybe(one_of(ImageFormat))}
        fields = await read_fields(request, where | _OPTIONS | _COMPRESS | _SOURCE_PASSPHRASE)
        path, source_format = fields.pop("path"), fields.pop("source_format")
        source = Source(
            path=path,
            format=_need_format(source_format, path, "source_format"),
            passphrase_file=fields.pop("source_passphrase_file"),
        )
        copy = _make(Copy, pool=pool, name=name, **fields)
        return self.run_verb(functools.partial(self.storage.import_file, source, copy))

    async def export_file(self, request: Request) -> Response | Stream:
        fields = {
            "path": Field(read_path),
            "image_format": Field(one_of(ImageFormat)),
            "passphrase_file": maybe(read_path),
        }
        return await self._run(self.storage.export_file, request, fields | _COMPRESS)

    async def check(self, request: Request) -> Response:
        fields = {"repair": maybe(_read_repair), "passphrase_file": maybe(read_path)}
        values = await read_fields(request, fields)
        return Json(attrs.asdict(await self.storage.check(*_find_volume(request), **values)))

    async def rename(self, request: Request) -> Response | Stream:
        return await self._run(self.storage.rename, request, {"new": Field(read_text)})

    async def wipe(self, request: Request) -> Response | Stream:
        return await self._run(self.storage.wipe, request, {})

    async def remove(self, request: Request) -> Response | Stream:
        return await self._run(self.storage.remove, request, {})

    async def download(self, request: Request) -> Stream:
        pool, name = _find_volume(request)
        fields = {"format": Field(one_of(ImageFormat)), **_COMPRESS}
        query = _read_query(request, fields)

        async def pump(stream: Stream) -> None:
            async with self.storage.open_download(
                pool, name, query["format"], compress=query["compress"]
            ) as export:
                stream.length = export.size
                await stream.start()
                while data := await export.read(_PIECE):
                    await stream.write(data)

        return Stream(pump, self.stopping)

    async def upload(self, request: Request) -> Response | Stream:
        pool, name = _find_volume(request)
        query = _read_query(request, {"source_format": Field(one_of(ImageFormat)), **_FORMAT})
        copy = _make(Copy, pool=pool, name=name, format=query["format"])
        async with self.storage.open_upload() as upload:
            more = True
            while more:
                data, more = await receive_piece(request)
                await upload.write(data)
            await upload.make_volume(query["source_format"], copy)
        return Json({})

    async def _run(
        self, verb: Callable[..., Awaitable[Any]], request: Request, fields: Mapping[str, Field]
    ) -> Response | Stream:
        where = _find_volume(request)
        values = await read_fields(request, fields)
        return self.run_verb(functools.partial(verb, *where), **values)


def _find_volume(request: Request) -> tuple[str, str]:
    """Pool and volume; what a volume may be called is judged where volumes are known."""
    return find_name(request, "pool", "pool"), unquote(request.path_params["volume"])


def _read_query(request: Request, fields: Mapping[str, Field]) -> dict[str, Any]:
    words = {"true": True, "false": False}
    query = {key: words.get(value, value) for key, value in request.query_params.items()}
    return read_values(query, fields)


def _need_format(given: ImageFormat | None, path: Path, key: str = "backing_format") -> ImageFormat:
    """The format of an image, by its suffix if it is not said; never by its content."""
    known = given or find_format(path)
    if known is None:
        raise InputError.from_problems([Problem(key, f"{path.name!r} may be of any format")])
    return known


def _read_repair(value: object) -> str:
    if value not in {"leaks", "all"}:
        raise ValueError("is neither leaks nor all")
    return str(value)


def _make(kind: Callable[..., T], **fields: Any) -> T:
    """A value that checks itself; what is wrong with it is wrong input."""
    try:
        return kind(**fields)
    except StorageError as error:
        raise InputError(error.message, error.hint) from None
