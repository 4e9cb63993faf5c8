"""A host interface that becomes a port of our bridge, with everything the host has on it.

The move is made of duplicates: first the bridge gets copies of the addresses and routes; the kernel
goes on to use the first ones. Then, in one `send` that SIGKILL cannot divide, the interface becomes
a port and the originals go. The way back is the same. So at every instant each address and each
route is there, on one side or on both, and whoever comes after a SIGKILL needs no record: what is
missing on the side where all shall be is copied from the other.

What the host looked like before and cannot be seen any more stands in the bridge's alias, after its
mark: it is written with the bridge and goes with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from qorch_net.plan import Mark
    from qorch_net.records import AddressRecord, RouteRecord


@attrs.frozen(kw_only=True)
class Note:
    """What a bridge's alias says about its uplink: its name, and how it was before.

    `mtu` None: it was not changed. `down`: it was not up.
    """

    uplink: str
    mtu: int | None = None
    down: bool = False

    def make_alias(self, mark: Mark) -> str:
        """The alias of the bridge."""
        words = [mark.alias, f"uplink={self.uplink}"]
        words += [f"mtu={self.mtu}"] if self.mtu else []
        return " ".join([*words, *(["down"] if self.down else [])])

    @classmethod
    def from_alias(cls, alias: str | None) -> Note | None:
        """Read it back; None if there is none."""
        found = re.fullmatch(r"\S+ uplink=(\S+)(?: mtu=(\d+))?( down)?", alias or "")
        if not found:
            return None
        name, mtu, down = found.groups()
        return cls(uplink=name, mtu=int(mtu) if mtu else None, down=bool(down))


@attrs.frozen(kw_only=True)
class Side:
    """One of the two interfaces, with its addresses and the routes that lead over it."""

    index: int
    name: str
    addresses: tuple[AddressRecord, ...] = ()
    routes: tuple[RouteRecord, ...] = ()

    @classmethod
    def from_records(
        cls,
        index: int,
        name: str,
        addresses: tuple[AddressRecord, ...],
        routes: tuple[RouteRecord, ...],
    ) -> Side:
        """Take from all addresses and routes of the host those that are here."""
        return cls(
            index=index,
            name=name,
            addresses=tuple(x for x in addresses if x.index == index),
            routes=tuple(x for x in routes if index in x.indexes and not x.is_automatic),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is here but what IPv6 makes up for every link."""
        return all(x.is_link_local for x in self.addresses) and all(
            route.network.is_link_local for route in self.routes
        )


def find_missing_addresses(source: Side, target: Side) -> tuple[AddressRecord, ...]:
    """The addresses of `source` that `target` does not have yet, as they are there."""
    have = {address.identity for address in target.addresses}
    return tuple(
        address.move(target.index, source.name)
        for address in source.addresses
        if address.identity not in have
    )


def find_missing_routes(source: Side, target: Side) -> tuple[RouteRecord, ...]:
    """The routes over `source` that do not lead over `target` yet, as they are there.

    Those to directly connected networks came with the addresses. Routes that need a gateway come
    after those that lead to it.
    """
    have = {route.move(target.index, target.index).identity for route in target.routes}
    moved = [route.move(source.index, target.index) for route in source.routes]
    missing = [route for route in moved if route.identity not in have]
    return tuple(sorted(missing, key=lambda route: (-route.scope, route.has_gateway)))


def find_removals(side: Side) -> tuple[tuple[RouteRecord, ...], tuple[AddressRecord, ...]]:
    """What to remove where everything is on the other side, in this order.

    The last address first: with the first one of a subnet the kernel removes all others.
    """
    routes = tuple(route.move(side.index, side.index) for route in side.routes)
    return routes, side.addresses[::-1]
