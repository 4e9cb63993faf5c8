"""Character back ends: one `-chardev` for each port that the host is connected to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.handles import Handles
from qorch.spec import ChardevSpec, ChardevType
from qorch.switch import Switch
from qorch.switch.backend import AddFd
from qorch.switch.chardev import (
    Chardev,
    ChardevDbus,
    ChardevPath,
    ChardevSocket,
    ChardevSpice,
    ChardevUdp,
    ChardevVdagent,
)
from qorch.switch.object import ObjectTlsCredsX509

_PATHS = (ChardevType.FILE, ChardevType.PIPE, ChardevType.SERIAL, ChardevType.PARALLEL)
_PLAIN = (ChardevType.PTY, ChardevType.NULL, ChardevType.STDIO, ChardevType.VC)


def make_chardev(id_: str, spec: ChardevSpec, handles: Handles) -> Iterator[Switch]:
    """What is connected; logs are files that we have opened."""
    logfile = None
    if (log := handles.find(f"{id_}.log")) is not None:
        yield AddFd(fd=log, set=log)
        logfile = Path(f"/dev/fdset/{log}")
    if spec.type is ChardevType.TCP and spec.tls:
        yield ObjectTlsCredsX509(id=f"{id_}-tls", endpoint="server" if spec.server else "client")
    logappend = True if logfile else None  # it was emptied by us, if that was asked for
    kind = spec.type.value
    match spec.type:
        case ChardevType.SOCKET | ChardevType.TCP:
            yield _socket(id_, spec, handles, logfile)
        case ChardevType.UDP:
            yield ChardevUdp(
                id=id_,
                logfile=logfile,
                logappend=logappend,
                host=spec.host or "",  # QEMU's localhost
                port=spec.port,
                localaddr=spec.local_host,
                localport=spec.local_port,
            )
        case ChardevType.SPICEVMC | ChardevType.SPICEPORT:
            name = spec.name or "vdagent"
            yield ChardevSpice(
                id=id_, backend=kind, name=name, logfile=logfile, logappend=logappend
            )
        case ChardevType.VDAGENT:
            yield ChardevVdagent(
                id=id_,
                logfile=logfile,
                logappend=logappend,
                clipboard=spec.clipboard,
                mouse=spec.mouse,
            )
        case ChardevType.DBUS:
            yield ChardevDbus(id=id_, name=spec.name or id_, logfile=logfile, logappend=logappend)
        case _ if spec.type in _PATHS and spec.path is not None:
            append = spec.append if spec.type is ChardevType.FILE else None
            yield ChardevPath(
                id=id_,
                backend=kind,
                logfile=logfile,
                logappend=logappend,
                path=spec.path,
                append=append,
            )
        case _:
            yield Chardev(id=id_, backend=kind, logfile=logfile, logappend=logappend)


def _socket(id_: str, spec: ChardevSpec, handles: Handles, logfile: Path | None) -> ChardevSocket:
    """Ours by its descriptor, another at its path, or TCP."""
    tcp = spec.type is ChardevType.TCP
    return ChardevSocket(
        id=id_,
        logfile=logfile,
        logappend=True if logfile else None,
        fd=handles.find(id_),
        path=spec.path,
        host=spec.host if tcp else None,
        port=spec.port if tcp else None,
        server=spec.server,
        wait=False if spec.server else None,
        telnet=spec.telnet or None,
        tls_creds=f"{id_}-tls" if tcp and spec.tls else None,
        reconnect=spec.reconnect if not spec.server else None,
    )
