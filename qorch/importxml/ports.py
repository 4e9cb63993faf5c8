"""`<serial>`, `<parallel>`, `<console>`, `<channel>`: ports and what is behind them."""

from __future__ import annotations

import re
from pathlib import Path

from qorch.importxml.address import Buses, address_of
from qorch.importxml.node import Node
from qorch.importxml.values import path_of
from qorch.spec import (
    ChannelSpec,
    ChardevSpec,
    ChardevType,
    ParallelSpec,
    SerialModel,
    SerialSpec,
    VhostUserSpec,
)

AGENT = "org.qemu.guest_agent.0"
_PLAIN = {
    "pty": ChardevType.PTY,
    "null": ChardevType.NULL,
    "stdio": ChardevType.STDIO,
    "vc": ChardevType.VC,
}
_WITH_PATH = {"file": ChardevType.FILE, "pipe": ChardevType.PIPE, "dev": ChardevType.SERIAL}
_SERIALS = {
    "isa-serial": SerialModel.ISA,
    "usb-serial": SerialModel.USB,
    "pci-serial": SerialModel.PCI,
    "isa-debug": SerialModel.DEBUGCON,
    "isa-debugcon": SerialModel.DEBUGCON,
}
_OWN_SOCKET = re.compile(r"/(var/lib|run)/libvirt/qemu/channel/")  # one that libvirt made up


def backend_of(  # noqa: PLR0911  one return per kind
    node: Node, *, device: ChardevType = ChardevType.SERIAL
) -> ChardevSpec | None:
    """What a port is connected to; None, after a note, if that has no counterpart."""
    kind = node.get("type") or "pty"
    source = node.find("source")
    log = node.find("log")
    file, append = path_of(log.get("file")), log.on("append")
    source.skip_all("seclabel")
    if kind in _PLAIN:
        source.get("path")  # of a pty: where it was the last time
        node.get("tty")
        return ChardevSpec(type=_PLAIN[kind], log=file, log_append=append)
    if kind in _WITH_PATH:
        path = path_of(source.get("path"))
        found = device if kind == "dev" else _WITH_PATH[kind]
        added = source.on("append") if kind == "file" else None
        return ChardevSpec(type=found, path=path, append=added, log=file, log_append=append)
    match kind:
        case "unix":
            return _unix(source, file, append)
        case "tcp":
            return _tcp(node, source, file, append)
        case "udp":
            return _udp(node, file, append)
        case "spicevmc":
            return ChardevSpec(type=ChardevType.SPICEVMC, name="vdagent")
        case "spiceport":
            return ChardevSpec(type=ChardevType.SPICEPORT, name=source.get("channel"))
        case "qemu-vdagent":
            return ChardevSpec(
                type=ChardevType.VDAGENT,
                name="vdagent",
                clipboard=source.find("clipboard").on("copypaste"),
                mouse=_mouse(source),
            )
        case "dbus":
            return ChardevSpec(type=ChardevType.DBUS, name=source.get("channel"))
    node.leave(f"{kind!r} connections have no counterpart")
    return None


def _mouse(source: Node) -> bool | None:
    mode = source.find("mouse").get("mode")
    return None if mode is None else mode == "client"


def _unix(source: Node, log: Path | None, append: bool | None) -> ChardevSpec:
    path = source.get("path")
    server = source.get("mode") != "connect"
    if path and _OWN_SOCKET.match(path):
        path = None
    return ChardevSpec(
        path=path_of(path), server=server, reconnect=_reconnect(source), log=log, log_append=append
    )


def vhost_user_of(source: Node) -> VhostUserSpec:
    """The socket of a process that makes a device."""
    source.get("type")
    backend = ChardevSpec(
        path=path_of(source.get("path")),
        server=source.get("mode") == "server",
        reconnect=_reconnect(source),
    )
    return VhostUserSpec(backend=backend)


def _tcp(node: Node, source: Node, log: Path | None, append: bool | None) -> ChardevSpec:
    return ChardevSpec(
        type=ChardevType.TCP,
        server=source.get("mode") == "bind",
        host=source.get("host"),
        port=source.number("service"),
        telnet=node.find("protocol").get("type") in ("telnet", "telnets"),
        tls=bool(source.on("tls")),
        reconnect=_reconnect(source),
        log=log,
        log_append=append,
    )


def _udp(node: Node, log: Path | None, append: bool | None) -> ChardevSpec:
    ends = {source.get("mode") or "connect": source for source in node.all("source")}
    there, here = ends.get("connect"), ends.get("bind")
    return ChardevSpec(
        type=ChardevType.UDP,
        host=there.get("host") if there else None,
        port=there.number("service") if there else None,
        local_host=here.get("host") if here else None,
        local_port=here.number("service") if here else None,
        log=log,
        log_append=append,
    )


def _reconnect(source: Node) -> int | None:
    node = source.find("reconnect")
    return node.number("timeout") if node.on("enabled") else None


def read_serials(devices: Node, buses: Buses) -> tuple[SerialSpec, ...]:
    """Serial ports and virtio consoles; the first console is libvirt's other name for a port."""
    found = [_serial(node, buses) for node in devices.all("serial")]
    for place, node in enumerate(devices.all("console")):
        kind = node.find("target").get("type") or "serial"
        if kind == "virtio":
            found.append(_virtconsole(node, buses))
        elif place == 0 and not devices.all("serial"):
            found.append(_serial(node, buses))
        elif kind == "serial":
            node.skip()
        else:
            node.leave(f"consoles of type {kind!r} are not a PC's")
    return tuple(serial for serial in found if serial is not None)


def _serial(node: Node, buses: Buses) -> SerialSpec | None:
    target = node.find("target")
    kind = target.find("model").get("name") or target.get("type") or "isa-serial"
    if kind in ("serial", "isa"):
        kind = "isa-serial"
    index = target.number("port")
    node.get("tty")
    if kind not in _SERIALS:
        node.leave(f"serial ports of type {kind!r} are not a PC's")
        return None
    backend = backend_of(node)
    if backend is None:
        return None
    return SerialSpec(
        model=_SERIALS[kind], backend=backend, index=index, address=address_of(node, buses)
    )


def _virtconsole(node: Node, buses: Buses) -> SerialSpec | None:
    node.find("target").get("port")
    node.get("tty")
    backend = backend_of(node)
    if backend is None:
        return None
    return SerialSpec(
        model=SerialModel.VIRTCONSOLE, backend=backend, address=address_of(node, buses)
    )


def read_parallels(devices: Node, buses: Buses) -> tuple[ParallelSpec, ...]:
    """Parallel ports."""
    return tuple(
        ParallelSpec(
            backend=backend,
            index=node.find("target").number("port"),
            address=address_of(node, buses),
        )
        for node in devices.all("parallel")
        if (backend := backend_of(node, device=ChardevType.PARALLEL))
    )


def read_channels(devices: Node, buses: Buses) -> tuple[bool, tuple[ChannelSpec, ...]]:
    """Whether there is qemu-guest-agent's channel, and the others."""
    agent, found = False, []
    for node in devices.all("channel"):
        channel = _channel(node, buses)
        if channel is None:
            continue
        plain = channel.address is None or channel.address.bus == "virtio-serial0.0"
        if channel.name == AGENT and channel.backend == ChardevSpec() and plain and not agent:
            agent = True
        else:
            found.append(channel)
    return agent, tuple(found)


def _channel(node: Node, buses: Buses) -> ChannelSpec | None:
    target = node.find("target")
    kind = target.get("type")
    target.get("state")
    if kind == "guestfwd":
        return None  # has no device: see read_args
    if kind != "virtio":
        node.leave(f"channels of type {kind!r} have no counterpart")
        return None
    backend = backend_of(node)
    name = target.get("name") or (backend.name if backend else None)
    if name == "vdagent":
        name = "com.redhat.spice.0"
    if backend is None:
        return None
    return ChannelSpec(name=name, backend=backend, address=address_of(node, buses))


def read_args(devices: Node) -> list[str]:
    """What only words of QEMU's own can say: TCP ports of a guest's network that lead to sockets.

    libvirt makes a user network for each that has no card.
    """
    words: list[str] = []
    for place, node in enumerate(devices.all("channel")):
        target = node.find("target")
        if target.get("type") != "guestfwd":
            continue
        backend, id_ = backend_of(node), f"guestfwd{place}"
        where = None if backend is None else _chardev_of(backend)
        if where is None:
            node.leave("guestfwd leads to sockets, pipes, files and the like")
            continue
        forward = f"tcp:{target.word('address')}:{target.word('port')}-chardev:{id_}"
        words += ["-chardev", where.format(id_)]
        words += ["-netdev", f"user,id={id_},guestfwd={forward}"]
    return words


def _chardev_of(spec: ChardevSpec) -> str | None:
    """A back end as `-chardev` takes it, `{}` for its id; None for what needs more than that."""
    ends = ",server=on,wait=off" if spec.server else ",server=off"
    path = str(spec.path or "").replace(",", ",,").replace("{", "{{").replace("}", "}}")
    match spec.type:
        case ChardevType.SOCKET if path:
            return f"socket,id={{}},path={path}{ends}"
        case ChardevType.TCP:
            return f"socket,id={{}},host={spec.host},port={spec.port}{ends}"
        case ChardevType.FILE | ChardevType.PIPE if path:
            return f"{spec.type.value},id={{}},path={path}"
        case ChardevType.PTY | ChardevType.NULL | ChardevType.STDIO:
            return f"{spec.type.value},id={{}}"
    return None
