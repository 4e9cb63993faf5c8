"""Character back ends."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.errors import Problem
from qorch.spec import ChardevSpec, ChardevType, MachineSpec, VhostUserSpec

_PATHS = (ChardevType.FILE, ChardevType.PIPE, ChardevType.SERIAL, ChardevType.PARALLEL)
_PORTS = (ChardevType.TCP, ChardevType.UDP)
_SPICE = (ChardevType.SPICEVMC, ChardevType.SPICEPORT)
_MAX_SOCKET_PATH = 107  # bytes: sun_path less its NUL (unix(7))


def find_chardev_problems(vm: MachineSpec, path: str, chardev: ChardevSpec) -> Iterator[Problem]:
    """What is wrong with what a port is connected to."""
    kind = chardev.type
    if kind in _PATHS and chardev.path is None:
        yield Problem(f"{path}.path", "is missing", f"a {kind.value} has a path")
    yield from _ports(path, chardev)
    if chardev.tls and kind is not ChardevType.TCP:
        yield Problem(f"{path}.tls", f"a {kind.value} has none", 'type = "tcp"')
    if kind is ChardevType.SOCKET and chardev.path is None and not chardev.server:
        yield Problem(f"{path}.path", "is missing", "the socket to connect to")
    if kind is ChardevType.SOCKET and len(str(chardev.path or "").encode()) > _MAX_SOCKET_PATH:
        yield Problem(
            f"{path}.path",
            "is longer than the path of a socket can be",
            "up to 107 bytes: choose a shorter one",
        )
    if chardev.path is not None and kind not in (*_PATHS, ChardevType.SOCKET):
        yield Problem(f"{path}.path", f"a {kind.value} has none", "leave it out")
    if kind in _SPICE and vm.spice is None:
        yield Problem(f"{path}.type", f"{kind.value} goes with SPICE", "define [vm.NAME.spice]")
    if chardev.reconnect is not None and chardev.server:
        yield Problem(f"{path}.reconnect", "is for clients", "server = false")
    if chardev.log_append is not None and chardev.log is None:
        yield Problem(f"{path}.log_append", "goes with a log", "give log = …, too")


def find_vhost_user_problems(vm: MachineSpec, path: str, spec: VhostUserSpec) -> Iterator[Problem]:
    """What is wrong with how a process is reached that makes a device."""
    if spec.backend.type is not ChardevType.SOCKET:
        hint = "backend = { path = … }, the socket of the process"
        yield Problem(f"{path}.backend", "is no Unix socket", hint)
    else:
        yield from find_chardev_problems(vm, f"{path}.backend", spec.backend)


def _ports(path: str, chardev: ChardevSpec) -> Iterator[Problem]:
    if chardev.type in _PORTS and chardev.port is None:
        yield Problem(f"{path}.port", "is missing", "port = …")
    for key in ("port", "local_port"):
        port = getattr(chardev, key)
        if port is not None and not 0 <= port < 1 << 16:
            yield Problem(f"{path}.{key}", f"{port} is no port", "1 to 65535")
