"""Unix sockets whose paths may be longer than the 108 bytes of sun_path (unix(7))."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qorch.errors import MachineError

BACKLOG = 128
FIRST_DISPLAY_PORT = 5900  # of VNC and SPICE
_DISPLAYS = 100


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A short name for the path, through an open directory, as long as the block lasts."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def bind_unix(path: Path) -> socket.socket:
    """A listening socket at `path`, for its owner only; a dead socket there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with _short(path) as name:
            listener.bind(name)
            os.chmod(name, 0o600)  # noqa: PTH101  the name is a /proc path
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def connect_unix(path: Path) -> socket.socket:
    """A non-blocking socket connected to `path`: the listener's backlog takes it at once.

    Raises OSError; with EAGAIN when the backlog is full, since nothing tells when to try again.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _short(path) as name:
            client.connect(name)
    except BaseException:
        client.close()
        raise
    return client


def find_free_display(host: str, first: int = 0) -> int:
    """The first VNC display from `first` on whose TCP port nobody listens at. Raises MachineError.

    Whoever takes it before QEMU does makes QEMU say so.
    """
    for display in range(first, _DISPLAYS):
        try:
            find = socket.getaddrinfo(host, FIRST_DISPLAY_PORT + display, type=socket.SOCK_STREAM)
            family, _, _, _, address = find[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                hint = "listen = an address of this host: ip address shows them"
                raise MachineError(
                    f"nobody can listen at {host}: {error.strerror}", hint
                ) from error
        else:
            return display
    last = FIRST_DISPLAY_PORT + _DISPLAYS - 1
    message = f"the ports {FIRST_DISPLAY_PORT} to {last} at {host} are all in use"
    raise MachineError(message, "without listen, the screen is on a Unix socket")
