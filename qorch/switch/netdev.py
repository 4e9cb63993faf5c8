"""Network back ends: what a card is connected to on the host."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import NOT_A_PROPERTY, Properties, json_word, properties


@attrs.frozen(kw_only=True)
class Netdev:
    """`-netdev`, whatever its type."""

    id: str
    type: str = attrs.field(metadata=NOT_A_PROPERTY)

    def properties(self) -> Properties:
        """As `netdev_add` takes them."""
        return {"type": self.type, **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-netdev", json_word(self.properties())


@attrs.frozen(kw_only=True)
class NetdevTap(Netdev):
    """An inherited tap, with a descriptor for each queue; their names are strings (qapi/net.json).

    What `vhost` has is handed over the same way.
    """

    type: str = attrs.field(default="tap", metadata=NOT_A_PROPERTY)
    queues: tuple[int, ...] = attrs.field(metadata=NOT_A_PROPERTY)
    vhosts: tuple[int, ...] = attrs.field(default=(), metadata=NOT_A_PROPERTY)
    sndbuf: int | None = None

    def properties(self) -> Properties:
        """As `netdev_add` takes them."""
        many = "s" if len(self.queues) > 1 else ""
        found = {**super().properties(), f"fd{many}": ":".join(map(str, self.queues))}
        if self.vhosts:
            found |= {"vhost": True, f"vhostfd{many}": ":".join(map(str, self.vhosts))}
        return found


@attrs.frozen(kw_only=True)
class NetdevUser(Netdev):
    """QEMU's own network (libslirp); `hostfwd` are ports of the host that lead to the guest."""

    type: str = attrs.field(default="user", metadata=NOT_A_PROPERTY)
    net: str | None = None
    host: str | None = None
    dhcpstart: str | None = None
    dns: str | None = None
    ipv6_prefix: str | None = None
    ipv6_prefixlen: int | None = None
    restrict: bool | None = None
    hostfwd: tuple[str, ...] = attrs.field(default=(), metadata=NOT_A_PROPERTY)

    def properties(self) -> Properties:
        """As `netdev_add` takes them."""
        forwards = [{"str": text} for text in self.hostfwd]
        return {**super().properties(), **({"hostfwd": forwards} if forwards else {})}


@attrs.frozen(kw_only=True)
class NetdevSocket(Netdev):
    """A wire to another QEMU over TCP, UDP or multicast."""

    type: str = attrs.field(default="socket", metadata=NOT_A_PROPERTY)
    listen: str | None = None
    connect: str | None = None
    mcast: str | None = None
    udp: str | None = None
    localaddr: str | None = None


@attrs.frozen(kw_only=True)
class NetdevStream(Netdev):
    """A wire to another QEMU over a Unix socket, or to who has the other end of `fd`."""

    type: str = attrs.field(default="stream", metadata=NOT_A_PROPERTY)
    server: bool
    path: Path | None = attrs.field(default=None, metadata=NOT_A_PROPERTY)
    fd: int | None = attrs.field(default=None, metadata=NOT_A_PROPERTY)

    def properties(self) -> Properties:
        """As `netdev_add` takes them."""
        where = {"type": "unix", "path": str(self.path)}
        if self.fd is not None:
            where = {"type": "fd", "str": str(self.fd)}
        return {**super().properties(), "addr": where}


@attrs.frozen(kw_only=True)
class NetdevVhostUser(Netdev):
    """A switch in user space, on a chardev."""

    type: str = attrs.field(default="vhost-user", metadata=NOT_A_PROPERTY)
    chardev: str
    queues: int | None = None


@attrs.frozen(kw_only=True)
class NetdevVdpa(Netdev):
    """A vDPA device."""

    type: str = attrs.field(default="vhost-vdpa", metadata=NOT_A_PROPERTY)
    vhostdev: Path
    queues: int | None = None
