"""Requests about pools and volumes. Standard library only: the command line imports it."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch.client import Client, Report

_PIECE = 1 << 18  # bytes of an upload sent at once


class StorageClient(NamedTuple):
    """Pools and volumes, over a client of the control API.

    All methods raise ClientError. A request with `report` goes on if the client leaves. Options
    are the keys of docs/api.md; sizes are in bytes, paths absolute.
    """

    client: Client

    def find_pools(self) -> list[dict[str, Any]]:
        """All pools."""
        answer: list[dict[str, Any]] = self.client.ask("GET", "/v1/pools")
        return answer

    def show_pool(self, pool: str) -> dict[str, Any]:
        """One pool."""
        answer: dict[str, Any] = self.client.ask("GET", f"/v1/pools/{_quote(pool)}")
        return answer

    def find_volumes(self, pool: str | None = None) -> list[dict[str, Any]]:
        """The volumes of one pool, or of all."""
        query = "" if pool is None else f"?{urlencode({'pool': pool})}"
        answer: list[dict[str, Any]] = self.client.ask("GET", f"/v1/volumes{query}")
        return answer

    def find_tree(self) -> list[dict[str, Any]]:
        """What builds on what: `{path, pool, name, children}` each."""
        answer: list[dict[str, Any]] = self.client.ask("GET", "/v1/volumes/tree")
        return answer

    def show_volume(self, pool: str, name: str) -> dict[str, Any]:
        """One volume, what it builds on and what builds on it."""
        answer: dict[str, Any] = self.client.ask("GET", _path(pool, name))
        return answer

    def check(self, pool: str, name: str, **options: Any) -> dict[str, Any]:
        """What `qemu-img check` finds."""
        answer: dict[str, Any] = self.client.ask("POST", _path(pool, name, "check"), options)
        return answer

    def create(self, pool: str, name: str, *, report: Report, **options: Any) -> None:
        """Make a volume."""
        self.client.follow("POST", _path(pool, name), options, report)

    def remove(self, pool: str, name: str, *, report: Report) -> None:
        """Remove a volume."""
        self.client.follow("DELETE", _path(pool, name), {}, report)

    def act(self, pool: str, name: str, verb: str, *, report: Report, **options: Any) -> None:
        """Do one of `resize`, `copy`, `import`, `export`, `rename`, `wipe`."""
        self.client.follow("POST", _path(pool, name, verb), options, report)

    @contextlib.contextmanager
    def open_download(self, pool: str, name: str, **query: str) -> Iterator[Iterator[bytes]]:
        """Yield a volume as an image file, in pieces."""
        path = f"{_path(pool, name, 'content')}?{urlencode(query)}"
        with self.client.open_stream(path) as pieces:
            yield pieces

    def upload(self, pool: str, name: str, file: IO[bytes], **query: str) -> None:
        """Make a volume of an image that is read from a file to its end."""
        path = f"{_path(pool, name, 'content')}?{urlencode(query)}"
        self.client.send_stream("POST", path, iter(lambda: file.read(_PIECE), b""))


def _path(pool: str, volume: str, *verb: str) -> str:
    return "/".join(("/v1/pools", _quote(pool), "volumes", _quote(volume), *verb))


def _quote(word: str) -> str:
    return quote(word, safe="", errors="surrogatepass")
