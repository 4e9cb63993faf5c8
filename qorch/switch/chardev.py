"""Character back ends: what a port is connected to on the host. They take no JSON on QEMU 7.2."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import NOT_A_PROPERTY, option_word, properties


@attrs.frozen(kw_only=True)
class Chardev:
    """`-chardev`, whatever its type; with `logfile` QEMU writes all that the guest prints to it."""

    id: str
    backend: str = attrs.field(metadata=NOT_A_PROPERTY)
    logfile: Path | None = None
    logappend: bool | None = None

    def args(self) -> tuple[str, ...]:
        return "-chardev", option_word(self.backend, properties(self))


@attrs.frozen(kw_only=True)
class ChardevSocket(Chardev):
    """A socket: a listening one that is inherited (`fd`), one at a path, or TCP.

    A client of a listening one may come and go.
    """

    backend: str = attrs.field(default="socket", metadata=NOT_A_PROPERTY)
    fd: int | None = None
    path: Path | None = None
    host: str | None = None
    port: int | None = None
    server: bool = True
    wait: bool | None = False
    telnet: bool | None = None
    tls_creds: str | None = None
    reconnect: int | None = None


@attrs.frozen(kw_only=True)
class ChardevUdp(Chardev):
    """Datagrams to `host` and `port`, from `localaddr` and `localport`."""

    backend: str = attrs.field(default="udp", metadata=NOT_A_PROPERTY)
    host: str | None = None
    port: int | None = None
    localaddr: str | None = None
    localport: int | None = None


@attrs.frozen(kw_only=True)
class ChardevPath(Chardev):
    """A file, pipe, serial or parallel port of the host."""

    path: Path
    append: bool | None = None


@attrs.frozen(kw_only=True)
class ChardevSpice(Chardev):
    """A channel of SPICE: `spicevmc` by `name`, or a `spiceport` by its fully qualified one."""

    name: str


@attrs.frozen(kw_only=True)
class ChardevVdagent(Chardev):
    """QEMU's own end of the SPICE agent's channel."""

    backend: str = attrs.field(default="qemu-vdagent", metadata=NOT_A_PROPERTY)
    clipboard: bool | None = None
    mouse: bool | None = None


@attrs.frozen(kw_only=True)
class ChardevDbus(Chardev):
    """A channel of the D-Bus display."""

    backend: str = attrs.field(default="dbus", metadata=NOT_A_PROPERTY)
    name: str
