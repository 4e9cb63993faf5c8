"""As much HTTP/1.1 as a client of the control API needs, over a connected socket.

`http.client` would do, but importing it takes 20 ms, as long as everything else `qorch ls` does,
and its buffer hides from select(2) what has arrived. Streams are asked for in HTTP/1.0: what comes
until the connection ends is the body. Standard library only.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Self

_CHUNK = 1 << 16
_LARGEST_HEAD = 1 << 16


class NoAnswerError(Exception):
    """The connection ended before the first byte of an answer: nobody has read the request."""


class WireError(Exception):
    """What came is not the answer of a control API, or not all of it."""


class Response:
    """The head of an answer, and its body as it comes."""

    def __init__(self, sock: socket.socket, head: bytes, rest: bytes) -> None:
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(":", 1) for line in lines if ":" in line)
        try:
            self.status = int(status.split(" ", 2)[1])
            length = headers.get("content-length")
            self._left = None if length is None else int(length)
        except (ValueError, IndexError):
            raise WireError(f"this is no HTTP: {head[:80]!r}") from None
        if self.status == 204:
            self._left = 0
        self.socket = sock
        self._rest = rest
        self._closes = "close" in headers.get("connection", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def fileno(self) -> int:
        """For select(2), once `take_buffered` has been called."""
        return self.socket.fileno()

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return self._left == 0 and not self._closes and not self._rest

    def take_buffered(self) -> bytes:
        """Take what came together with the head."""
        rest, self._rest = self._rest, b""
        return rest

    def read_some(self) -> bytes:
        """Wait for a piece of the body; b"" at its end."""
        if self._left == 0:
            return b""
        data = self.take_buffered() or self._receive()
        if self._left is not None:
            if not data:
                raise WireError("the supervisor's answer ends in the middle")
            self._left = max(0, self._left - len(data))
        return data

    def read(self) -> bytes:
        """Read the whole body."""
        return b"".join(iter(self.read_some, b""))

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(_CHUNK)
        except ConnectionError:
            return b""


def send_request(
    sock: socket.socket, method: str, path: str, body: bytes, *, stream: bool
) -> Response:
    """Send one request and read the head of its answer; `stream` if the body may have no end."""
    head = f"{method} {path} HTTP/1.{0 if stream else 1}\r\nHost: qorch\r\n"
    if body or method != "GET":
        head += f"Content-Length: {len(body)}\r\n"
    with contextlib.suppress(ConnectionError):  # the answer may say why
        sock.sendall(head.encode() + b"\r\n" + body)
    return read_response(sock)


def read_response(sock: socket.socket) -> Response:
    """Read the head of an answer. Raises NoAnswerError or WireError."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = sock.recv(_CHUNK)
        except ConnectionError:
            more = b""
        if not more and not data:
            raise NoAnswerError
        if not more or len(data) > _LARGEST_HEAD:
            raise WireError("the supervisor's answer ends in the middle")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return Response(sock, head, rest)


class Upload:
    """A request whose body has no known end, sent in chunks as they come."""

    def __init__(self, sock: socket.socket, method: str, path: str) -> None:
        self._socket = sock
        self._unsent = bytearray()
        head = f"{method} {path} HTTP/1.1\r\nHost: qorch\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._socket.sendall(head.encode())

    def fileno(self) -> int:
        """For select(2), when there is something unsent."""
        return self._socket.fileno()

    @property
    def unsent(self) -> int:
        """How many bytes wait until the other end takes them."""
        return len(self._unsent)

    def send(self, data: bytes) -> None:
        """Send a piece; ConnectionError if nobody takes it any more."""
        self._queue(data)
        self._socket.sendall(self._unsent)
        self._unsent.clear()

    def send_nowait(self, data: bytes = b"") -> None:
        """Send what can be sent without waiting, and keep the rest."""
        self._queue(data)
        with contextlib.suppress(BlockingIOError):
            del self._unsent[: self._socket.send(self._unsent, socket.MSG_DONTWAIT)]

    def _queue(self, data: bytes) -> None:
        if data:
            self._unsent += b"%x\r\n%b\r\n" % (len(data), data)

    def finish(self) -> Response:
        """End the body and read the head of the answer."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(self._unsent + b"0\r\n\r\n")
        return read_response(self._socket)
