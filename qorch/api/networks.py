"""The requests about networks and addresses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from qorch.api.answer import Endpoint, Json, Stream
from qorch.api.names import find_name

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from qorch.api.protocol import Networks

    RunVerb = Callable[..., Response | Stream]


def make_network_routes(networks: Networks, run_verb: RunVerb) -> list[tuple[str, str, Endpoint]]:
    """Method, path and endpoint of each request; `run_verb` starts a verb and tells its steps."""
    api = _NetworkApi(networks, run_verb)
    return [
        ("GET", "/networks", api.find_networks),
        ("GET", "/networks/{name}", api.show_network),
        ("GET", "/networks/{name}/leases", api.find_leases),
        ("POST", "/networks/{name}/up", api.up),
        ("POST", "/networks/{name}/down", api.down),
        ("GET", "/machines/{name}/addresses", api.find_addresses),
    ]


@attrs.define(eq=False)
class _NetworkApi:
    networks: Networks
    run_verb: RunVerb

    async def find_networks(self, _request: Request) -> Response:
        return Json(self.networks.find_networks())

    async def show_network(self, request: Request) -> Response:
        return Json(await self.networks.show_network(find_name(request, "network")))

    async def find_leases(self, request: Request) -> Response:
        return Json(await self.networks.find_leases(find_name(request, "network")))

    async def find_addresses(self, request: Request) -> Response:
        return Json(await self.networks.find_addresses(find_name(request)))

    async def up(self, request: Request) -> Response | Stream:
        return self.run_verb(functools.partial(self.networks.up, find_name(request, "network")))

    async def down(self, request: Request) -> Response | Stream:
        return self.run_verb(functools.partial(self.networks.down, find_name(request, "network")))
