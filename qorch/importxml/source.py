"""`<disk><source>`: where the content of a disk is."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from qorch.importxml.address import host_pci
from qorch.importxml.node import Node
from qorch.importxml.values import choose, path_of
from qorch.spec import BackingSpec, DiskDevice, SliceSpec
from qorch.units import Size
from qorch_storage.plan import ImageFormat

_FORMATS = {format_.value: format_ for format_ in ImageFormat}
_NO_FORMATS = ("aio", "fat")
_PORTS = {  # libvirt's and QEMU's
    "nbd": 10809,
    "iscsi": 3260,
    "ssh": 22,
    "gluster": 24007,
    "http": 80,
    "https": 443,
    "ftp": 21,
    "ftps": 990,
}
_LIBVIRT_POOL = Path("/var/lib/libvirt/images")  # of its pool `default`


def read_source(disk: Node, device: DiskDevice) -> dict[str, Any] | None:
    """`path` or `url`, and the format; None, after a note, if the disk cannot be had."""
    kind, source, driver = disk.get("type") or "file", disk.find("source"), disk.find("driver")
    place = _place(disk, kind, source)
    if place is None:
        if source and not _is_empty(source):
            return None
        if device is not DiskDevice.CDROM and disk.get("device") != "floppy":
            disk.leave("has no source")
            return None
        place = {}
    named = driver.get("type")
    image = choose(driver, named, _FORMATS, "format") if named not in _NO_FORMATS else None
    if named not in (None, "", "default", *_NO_FORMATS) and image is None:
        disk.leave(f"images of format {named!r} have no counterpart")
        return None
    values = {**place, "format": image or ImageFormat.RAW}
    values |= _encryption(disk, source, values["format"])
    part = source.find("slices", "slice")
    part.get("type")
    if part:
        values["slice"] = SliceSpec(
            offset=Size(part.number("offset") or 0),
            size=None if (size := part.number("size")) is None else Size(size),
        )
    if chain := _chain(disk):
        values["chain"] = chain
    _extras(source)
    return values


def _is_empty(source: Node) -> bool:
    return not (source.attributes.keys() - {"startupPolicy", "index"}) and not source.nodes


def _place(disk: Node, kind: str, source: Node) -> dict[str, Any] | None:
    """Where an image is; None if there is none, or it has no counterpart."""
    match kind:
        case "file" | "block":
            path = path_of(source.get("file") or source.get("dev"))
            return {"path": path} if path else None
        case "network":
            url = url_of(source)
            if url is None and source:
                disk.leave("its kind of network disk has no counterpart")
            return {"url": url} if url else None
        case "volume":
            return _volume(source)
        case "dir":
            return _directory(disk, source)
        case "nvme":
            return _nvme(source)
        case _ if source:
            disk.leave(f"disks of type {kind!r} have no counterpart")
    return None


def _directory(disk: Node, source: Node) -> dict[str, Any] | None:
    """A directory as a FAT file system."""
    path = source.get("dir")
    floppy = "?floppy=on" if disk.get("device") == "floppy" else ""
    return {"url": f"vvfat://{quote(path)}{floppy}"} if path else None


def _nvme(source: Node) -> dict[str, Any]:
    """A namespace of a controller that QEMU drives by itself."""
    source.get("type")
    source.get("managed")
    space = source.number("namespace") or 1
    return {"url": f"nvme://{host_pci(source.find('address'))}/{space}"}


def _volume(source: Node) -> dict[str, Any] | None:
    pool, volume = source.get("pool"), source.get("volume")
    source.get("mode")
    if not pool or not volume:
        return None
    path = _LIBVIRT_POOL / volume
    source.note(f"is {volume!r} of libvirt's pool {pool!r}: check the path (virsh vol-path)")
    return {"path": path}


def url_of(source: Node) -> str | None:
    """The address of an image elsewhere, as QEMU writes it."""
    protocol, name = source.get("protocol") or "", source.get("name") or ""
    hosts = [(host.get("name"), host.number("port"), host.get("transport"), host.get("socket"))
             for host in source.all("host")]  # fmt: skip
    source.leave_all("auth", "cookies", why="put the secret where the URL or a file names it")
    source.skip_all("config", "snapshot")
    host, port, transport, socket = hosts[0] if hosts else ("localhost", None, None, None)
    port = port or _PORTS.get(protocol)
    where = f"{host or ''}:{port}" if port else host or ""
    if host and ":" in host:
        where = f"[{host}]:{port}" if port else f"[{host}]"
    match protocol:
        case "nbd":
            unix = f"nbd+unix:///{quote(name)}?socket={socket}"
            return unix if transport == "unix" else f"nbd://{where}/{quote(name)}".rstrip("/")
        case "iscsi":
            target, _, lun = name.partition("/")
            return f"iscsi://{where}/{target}/{lun or '0'}"
        case "rbd":
            return _rbd(source, name, hosts)
        case "ssh" if not name.startswith("/"):
            return f"ssh://{where}/~/{name}"  # below the user's home
        case "http" | "https" | "ftp" | "ftps" | "ssh" | "nfs" | "gluster" | "tftp":
            query = source.get("query")
            return f"{protocol}://{where}/{name.lstrip('/')}" + (f"?{query}" if query else "")
    return None


def _rbd(source: Node, name: str, hosts: list[Any]) -> str:
    """An image of Ceph's, as QEMU's own form of a URL has it."""
    monitors = ";".join(f"{name}\\:{port}" if port else str(name) for name, port, *_ in hosts)
    snapshot, conf = source.find("snapshot").get("name"), source.find("config").get("file")
    user = source.find("auth").get("username")
    return (
        f"rbd:{name}"
        + (f"@{snapshot}" if snapshot else "")
        + (f":id={user}" if user else "")
        + (f":mon_host={monitors}" if hosts else "")
        + (f":conf={conf}" if conf else "")
    )


def _encryption(disk: Node, source: Node, image: ImageFormat) -> dict[str, Any]:
    """The file of a passphrase: libvirt keeps them as secrets; qorch reads them from files.

    To libvirt a LUKS container is a raw image that is encrypted.
    """
    node = source.find("encryption") or disk.find("encryption")
    if not node:
        return {}
    kind, engine = node.get("format"), node.get("engine")
    if kind != "luks" or engine not in (None, "qemu"):
        node.leave(f"encryption of format {kind!r} by {engine or 'qemu'!r} has no counterpart")
        return {}
    secret = node.find("secret")
    name = secret.get("uuid") or secret.get("usage") or "disk"
    secret.skip()
    file = f"{name.replace('/', '_')}.passphrase"
    node.note(f"write the passphrase to {file}: virsh secret-get-value --plain {name}")
    found: dict[str, Any] = {"passphrase_file": Path(file)}
    return found | ({"format": ImageFormat.LUKS} if image is ImageFormat.RAW else {})


def _chain(disk: Node) -> tuple[BackingSpec, ...]:
    """The images below, if the document tells all of them."""
    found = []
    node = disk.find("backingStore")
    while node and node.nodes:
        node.get("index")
        kind, source = node.get("type") or "file", node.find("source")
        place = _place(node, kind, source)
        image = choose(node, node.find("format").get("type"), _FORMATS, "format")
        if not place:
            return ()
        _extras(source)
        found.append(BackingSpec(**place, format=image or ImageFormat.RAW))
        node = node.find("backingStore")
    node.skip()
    return tuple(found)


def _extras(source: Node) -> None:
    """What libvirt's source has beside the place."""
    for name in ("index", "fdgroup"):
        source.get(name)
    if (policy := source.get("startupPolicy")) not in (None, "mandatory"):
        source.note(f"a medium that is missing ({policy}) is an error", "@startupPolicy")
    source.skip_all("privateData")
    source.leave_all("seclabel", why="qorch labels no files")
    source.leave_all("reservations", why="there is no persistent reservation helper")
    source.leave_all("ssl", "readahead", "timeout", "initiator", "identity",
                     "reconnect", "knownHosts", "cookies")  # fmt: skip
