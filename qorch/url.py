"""Images elsewhere: a URL as the properties of QEMU's protocol drivers (qapi/block-core.json)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from qorch.option import Properties

_NBD_PORT, _SSH_PORT = 10809, 22


def parse_url(url: str) -> tuple[str, Properties]:
    """The driver and its properties. Raises ValueError for what QEMU has no driver for."""
    scheme = url.partition(":")[0].lower()
    if scheme == "rbd":
        return "rbd", _rbd(url.partition(":")[2])
    parts = urlsplit(url)
    kind = scheme.partition("+")[0]
    if kind in ("http", "https", "ftp", "ftps"):
        return kind, {"url": url}
    parse = _PARSERS.get(kind)
    if parse is None:
        raise ValueError(f"{url!r} is none of {', '.join(sorted(SCHEMES))}")
    return kind, parse(parts)


def _inet(parts: SplitResult, port: int | None = None) -> dict[str, object]:
    host = {"host": parts.hostname or "localhost"}
    given = parts.port or port
    return {**host, "port": str(given)} if given else {**host}


def _nbd(parts: SplitResult) -> Properties:
    export = unquote(parts.path.lstrip("/"))
    if parts.scheme == "nbd+unix":
        socket = _query(parts).get("socket", "")
        server: dict[str, object] = {"type": "unix", "path": socket}
    else:
        server = {"type": "inet", **_inet(parts, _NBD_PORT)}
    return {"server": server, **({"export": export} if export else {})}


def _iscsi(parts: SplitResult) -> Properties:
    target, _, lun = parts.path.strip("/").partition("/")
    found: Properties = {
        "transport": "iser" if parts.scheme == "iscsi+iser" else "tcp",
        "portal": f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}",
        "target": unquote(target),
        "lun": int(lun or 0),
    }
    return found | ({"user": unquote(parts.username)} if parts.username else {})


def _ssh(parts: SplitResult) -> Properties:
    """`ssh://HOST/~/PATH` is below the user's home."""
    path = unquote(parts.path)
    found: Properties = {"server": _inet(parts, _SSH_PORT), "path": path.removeprefix("/~/")}
    return found | ({"user": unquote(parts.username)} if parts.username else {})


def _gluster(parts: SplitResult) -> Properties:
    volume, _, path = parts.path.lstrip("/").partition("/")
    server: dict[str, object] = {"type": "inet", **_inet(parts, 24007)}
    if parts.scheme == "gluster+unix":
        server = {"type": "unix", "path": _query(parts).get("socket", "")}
    return {"volume": unquote(volume), "path": unquote(path), "server": [server]}


def _nfs(parts: SplitResult) -> Properties:
    server = {"type": "inet", "host": parts.hostname or "localhost"}
    return {"server": server, "path": unquote(parts.path)}


def _nvme(parts: SplitResult) -> Properties:
    return {"device": parts.netloc, "namespace": int(parts.path.strip("/") or 1)}


def _vvfat(parts: SplitResult) -> Properties:
    query = _query(parts)
    floppy, writable = (query.get(key) in ("", "1", "on", "true") for key in ("floppy", "rw"))
    return {"dir": unquote(parts.path), "floppy": floppy, **({"rw": True} if writable else {})}


def _rbd(rest: str) -> Properties:
    r"""`rbd:POOL/[NAMESPACE/]IMAGE[@SNAPSHOT][:KEY=VALUE…]`, a colon in a value as `\:`."""
    words = [word.replace("\0", ":") for word in rest.replace("\\:", "\0").split(":")]
    place, _, snapshot = words[0].partition("@")
    pool, _, image = place.partition("/")
    namespace, _, image = image.rpartition("/")
    found: Properties = {"pool": pool, "image": image}
    if namespace:
        found["namespace"] = namespace
    if snapshot:
        found["snapshot"] = snapshot
    for key, _, value in (word.partition("=") for word in words[1:]):
        if key == "id":
            found["user"] = value
        elif key == "conf":
            found["conf"] = value
        elif key == "mon_host":
            found["server"] = [_monitor(host) for host in value.split(";")]
    return found


def _monitor(text: str) -> dict[str, object]:
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
    return {"host": host.strip("[]"), "port": port or "6789"}


def _query(parts: SplitResult) -> Mapping[str, str]:
    return {
        key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()
    }


_PARSERS: dict[str, Callable[[SplitResult], Properties]] = {
    "nbd": _nbd,
    "iscsi": _iscsi,
    "ssh": _ssh,
    "gluster": _gluster,
    "nfs": _nfs,
    "nvme": _nvme,
    "vvfat": _vvfat,
}
SCHEMES = ("rbd", "http", "https", "ftp", "ftps", *_PARSERS)
