"""A blocking client of the control API. Standard library only: the command line imports it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote

from qorch.api import rendezvous, wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from qorch.paths import StateDir

    Report = Callable[[dict[str, str]], None]

_ATTEMPTS = 5  # a supervisor that leaves refuses connections before the second
_LOG_LINES = 15  # of a supervisor that died, shown to the user


class Problem(NamedTuple):
    """One thing wrong with the input, and where."""

    path: str
    message: str
    hint: str | None = None


class ClientError(Exception):
    """A request was refused; `kind` is `input`, `not-found` or `failed`."""

    def __init__(
        self, kind: str, message: str, hint: str | None = None, problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    @classmethod
    def from_json(cls, error: dict[str, Any]) -> ClientError:
        """Read `{kind, message, hint, problems}`."""
        problems = [
            Problem(problem["path"], problem["message"], problem.get("hint"))
            for problem in error.get("problems") or ()
        ]
        return cls(error["kind"], error["message"], error.get("hint"), problems)


class Document(NamedTuple):
    """The text of a vm.toml, where its relative paths start, and its name for messages."""

    text: str
    directory: str
    file: str = "vm.toml"


class Client:
    """Requests to the supervisor of a state directory, one at a time, not to be shared by threads.

    `start`: start a supervisor in the background if none runs, with `command`. `seconds` limits
    each wait for the supervisor; unlimited if None.

    All methods raise ClientError. `report` is called with each step and note of a request as it
    happens: `{"type": "step" | "note", "kind", "name", "step" | "message"}`. What was asked for is
    done even if the client leaves.
    """

    def __init__(
        self,
        state: StateDir,
        *,
        start: bool = True,
        seconds: float | None = None,
        command: Sequence[str] = rendezvous.COMMAND,
    ) -> None:
        self.state = state
        self._start = start
        self._seconds = seconds
        self._command = command
        self._idle: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection that is kept open between requests."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def connect(self) -> None:
        """Connect, and start a supervisor if none runs."""
        if self._idle is None:
            self._idle, _ = self._connect()

    def find_supervisor(self) -> dict[str, Any]:
        """`{version, pid, state: {run, data}, owner}`."""
        answer: dict[str, Any] = self._ask("GET", "/v1/supervisor")
        return answer

    def find_machines(self) -> list[dict[str, Any]]:
        """All machines, as `qorch ls --json` prints them."""
        answer: list[dict[str, Any]] = self._ask("GET", "/v1/machines")
        return answer

    def show_machine(self, name: str) -> dict[str, Any]:
        """One machine, as `qorch show --json` prints it."""
        answer: dict[str, Any] = self._ask("GET", _machine(name))
        return answer

    def plan(
        self, document: Document, *, down: bool = False, report: Report | None = None
    ) -> list[dict[str, Any]]:
        """What `up` (or `down`) would do: `{action, kind, name, detail}` each."""
        body = document._asdict() | {"down": down, "notes": True}
        answer: dict[str, list[dict[str, Any]]] = self._ask("POST", "/v1/plan", body)
        if report is not None:
            for note in answer["notes"]:
                report(note)
        return answer["changes"]

    def up(
        self,
        document: Document,
        *,
        report: Report,
        wait: float | None = None,
        restart: bool = False,
    ) -> None:
        """Make the host what the document says; wait up to `wait` seconds for the guests."""
        body = document._asdict() | {"wait": wait, "restart": restart}
        self._follow("POST", "/v1/up", body, report)

    def down(self, document: Document, *, report: Report, volumes: bool = False) -> None:
        """Remove what the document defines, its volumes only if asked to."""
        self._follow("POST", "/v1/down", document._asdict() | {"volumes": volumes}, report)

    def start_machine(self, name: str, *, report: Report, wait: float | None = None) -> None:
        """Start a machine that is defined."""
        self._follow("POST", _machine(name, "start"), {"wait": wait}, report)

    def stop_machine(self, name: str, *, report: Report, grace: float | None = None) -> None:
        """Shut the guest down; after `grace` seconds without its help."""
        self._follow("POST", _machine(name, "stop"), {"grace": grace}, report)

    def restart_machine(
        self, name: str, *, report: Report, grace: float | None = None, wait: float | None = None
    ) -> None:
        """Stop a machine and start it again."""
        body = {"grace": grace, "wait": wait}
        self._follow("POST", _machine(name, "restart"), body, report)

    def kill_machine(self, name: str, *, report: Report) -> None:
        """End a machine at once, as if its power failed."""
        self._follow("POST", _machine(name, "kill"), {}, report)

    def remove_machine(self, name: str, *, report: Report, volumes: bool = False) -> None:
        """Stop and forget a machine, and remove its volumes if asked to."""
        self._follow("DELETE", _machine(name), {"volumes": volumes}, report)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request of docs/api.md, answered at once."""
        return self._ask(method, path, body)

    def follow(self, method: str, path: str, body: dict[str, Any], report: Report) -> None:
        """One request of docs/api.md, answered with progress."""
        self._follow(method, path, body, report)

    @contextlib.contextmanager
    def open_log(
        self, name: str, *, lines: int | None = None, follow: bool = False
    ) -> Iterator[Iterator[bytes]]:
        """Yield the console log's last lines (all if None) and, with `follow`, what is added."""
        query = f"?follow={json.dumps(follow)}" + ("" if lines is None else f"&lines={lines}")
        with self._request("GET", _machine(name, "log") + query, None, stream=True) as response:
            yield iter(response.read_some, b"")

    @contextlib.contextmanager
    def open_events(self, machine: str | None = None) -> Iterator[Iterator[dict[str, Any]]]:
        """Yield events as they happen, of one machine or of all."""
        query = "" if machine is None else f"?machine={_quote(machine)}"
        with self._request("GET", "/v1/events" + query, None, stream=True) as response:
            yield _read_lines(response)

    @contextlib.contextmanager
    def open_console(self, name: str) -> Iterator[Console]:
        """Watch the serial console and type on it."""
        path = _machine(name, "console")
        with self._request("GET", path, None, stream=True) as response, self._connect()[0] as sock:
            yield Console(response, wire.Upload(sock, "POST", path))

    @contextlib.contextmanager
    def open_stream(self, path: str) -> Iterator[Iterator[bytes]]:
        """Yield an answer in pieces, as they come; it must have an end of its own."""
        with self._request("GET", path, None, stream=True) as response:
            yield iter(response.read_some, b"")

    def send_stream(self, method: str, path: str, pieces: Iterator[bytes]) -> None:
        """Send a body in pieces, and wait for the answer."""
        self.connect()
        upload = wire.Upload(self._connect()[0], method, path)
        try:
            for piece in pieces:
                upload.send(piece)
        except ConnectionError:
            pass  # refused before its end: the answer says why
        try:
            response = upload.finish()
        except (ConnectionError, wire.NoAnswerError, wire.WireError) as error:
            raise ClientError("failed", f"no answer from the supervisor: {error}") from error
        with response:
            if response.status >= 400:
                raise ClientError.from_json(_parse(response)["error"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = self._request(method, path, body, stream=False)
        with contextlib.ExitStack() as stack:
            stack.enter_context(response)
            answer = _parse(response)
            if response.reusable:
                stack.pop_all()
                self._idle = response.socket
        return answer

    def _follow(self, method: str, path: str, body: dict[str, Any], report: Report) -> None:
        logged = self._log_size()
        with self._request(method, path, body, stream=True) as response:
            for line in _read_lines(response):
                if line["type"] == "done":
                    return
                if line["type"] == "error":
                    raise ClientError.from_json(line["error"])
                report(line)
        raise self._died("the supervisor ended before this was done", logged)

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None, *, stream: bool
    ) -> wire.Response:
        """Ask, again if the supervisor was about to leave and did not read the question."""
        data = b"" if body is None else json.dumps(body).encode()
        for attempts_left in reversed(range(_ATTEMPTS)):
            logged = self._log_size()
            sock, started = self._connect()
            try:
                response = wire.send_request(sock, method, path, data, stream=stream)
            except wire.NoAnswerError:
                sock.close()
                if started or not attempts_left:
                    raise self._died("the supervisor ended without an answer", logged) from None
                continue
            except (wire.WireError, OSError) as error:
                sock.close()
                raise ClientError("failed", f"no answer from the supervisor: {error}") from error
            if response.status < 400:
                return response
            with response:
                if response.status != 503 or not attempts_left:
                    raise ClientError.from_json(_parse(response)["error"])
        raise AssertionError

    def _connect(self) -> tuple[socket.socket, bool]:
        """Connect, and tell whether the supervisor was started for it."""
        if self._idle is not None:
            sock, self._idle = self._idle, None
            return sock, False
        try:
            found = rendezvous.connect(self.state.api_socket, seconds=self._seconds)
            if found is not None:
                return found, False
            if not self._start:
                hint = "any command that needs one starts it, `qorch serve` keeps it"
                raise ClientError("failed", f"no supervisor runs for {self.state.data}", hint)
            met = rendezvous.meet(self.state)
            if not isinstance(met, rendezvous.Claim):
                return met, False
            return self._start_supervisor(met), True
        except rendezvous.RendezvousError as error:
            raise ClientError("failed", error.message, error.hint) from error

    def _start_supervisor(self, claim: rendezvous.Claim) -> socket.socket:
        with contextlib.closing(claim), contextlib.ExitStack() as on_failure:
            sock = rendezvous.connect(self.state.api_socket, seconds=self._seconds)
            if sock is None:
                raise ClientError("failed", f"{self.state.api_socket} was removed by somebody")
            on_failure.enter_context(sock)
            rendezvous.start_supervisor(self.state, claim, self._command)
            on_failure.pop_all()
        return sock

    def _log_size(self) -> int:
        try:
            return self.state.supervisor_log.stat().st_size
        except OSError:
            return 0

    def _died(self, message: str, logged: int) -> ClientError:
        """Show what the supervisor wrote since its log was `logged` bytes long."""
        try:
            with self.state.supervisor_log.open("rb") as file:
                file.seek(logged)
                words = file.read().decode(errors="replace").splitlines()
        except OSError:
            words = []
        lines = [message, *(f"  {line}" for line in words[-_LOG_LINES:])]
        return ClientError("failed", "\n".join(lines), f"its log is {self.state.supervisor_log}")


class Console:
    """A serial console: everything printed on it from now on, and its keyboard."""

    def __init__(self, response: wire.Response, upload: wire.Upload) -> None:
        self._upload = upload
        self.fileno = response.fileno
        self.take_buffered = response.take_buffered
        self.read_some = response.read_some
        self.keyboard_fileno = upload.fileno

    @property
    def unsent(self) -> int:
        """How many bytes wait until the guest takes them; try when `keyboard_fileno` can write."""
        return self._upload.unsent

    def send(self, data: bytes) -> None:
        """Type, and wait while the guest does not take it."""
        with _typing():
            self._upload.send(data)

    def send_nowait(self, data: bytes = b"") -> None:
        """Type without waiting: what the guest does not take yet is kept."""
        with _typing():
            self._upload.send_nowait(data)

    def finish(self) -> None:
        """Wait until all that was typed has arrived; nothing can be typed after that."""
        with _typing():
            response = self._upload.finish()
        with response:
            if response.status >= 400:
                raise ClientError.from_json(_parse(response)["error"])


@contextlib.contextmanager
def _typing() -> Iterator[None]:
    try:
        yield
    except (ConnectionError, wire.NoAnswerError, wire.WireError) as error:
        raise ClientError("failed", "the console takes no input any more") from error


def _machine(name: str, *verb: str) -> str:
    return "/".join(("/v1/machines", _quote(name), *verb))


def _quote(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")


def _parse(response: wire.Response) -> Any:
    try:
        return json.loads(response.read())
    except (ValueError, wire.WireError, OSError) as error:
        raise ClientError("failed", f"the supervisor's answer is broken: {error}") from error


def _read_lines(response: wire.Response) -> Iterator[dict[str, Any]]:
    rest = b""
    while data := response.read_some():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield json.loads(line)
