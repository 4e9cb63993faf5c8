"""How a client and the supervisor find each other: a directory, two locks, a socket.

The supervisor holds `supervisor.lock` from before it lives until it is gone. Whoever looks for the
supervisor in order to start one, or to be one, holds `start.lock` while it looks, so that of two
who look at once one starts it and the other finds it.

The socket is bound, and listens, before the supervisor's process exists, and is inherited by it.
A client that starts a supervisor therefore connects at once: the kernel's backlog keeps its request
until somebody answers, and nobody waits for a path to appear. If the process dies before that, the
last copy of the listening socket is closed and the client sees its connection end.

The command line imports this at every call: standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

from qorch.lock import open_lock, try_lock
from qorch.paths import StateDir

COMMAND = (sys.executable, "-P", "-m", "qorch")  # -P: not whatever `qorch` lies in the directory
LINGER = 5.0  # seconds that a supervisor started here stays with nothing to do

_BACKLOG = 1024
_PATIENCE = 10.0  # seconds for a supervisor that is shutting down
_LARGEST_LOG = 1 << 20
_LONGEST_ADDRESS = 107  # bytes; unix(7), sun_path without its NUL
_NOBODY_LISTENS = {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR}


class RendezvousError(Exception):
    """The supervisor can neither be reached nor started."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Claim(NamedTuple):
    """What makes a process the supervisor: the listening socket and the locked file's fd."""

    listener: socket.socket
    lock: int

    def close(self) -> None:
        """Give it up, unless another process has inherited it."""
        self.listener.close()
        os.close(self.lock)


def connect(path: Path, *, seconds: float | None = None) -> socket.socket | None:
    """Connect to a Unix socket; None if nobody listens. `seconds` limits every wait on it."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(seconds)
        with open_address(path) as address:
            sock.connect(address)
    except OSError as error:
        sock.close()
        if error.errno in _NOBODY_LISTENS:
            return None
        reason = error.strerror or str(error)
        hint = "run it as the user whose supervisor it is" if error.errno == errno.EACCES else None
        raise RendezvousError(f"cannot connect to {path}: {reason}", hint) from error
    return sock


def meet(state: StateDir, *, patience: float = _PATIENCE) -> socket.socket | Claim:
    """Connect to the supervisor or, where none runs, claim its place.

    A supervisor that is shutting down is waited for, at most `patience` seconds. Raises
    RendezvousError.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            _make_directories(state)
            with os.fdopen(open_lock(state.start_lock), "wb") as start_lock:
                fcntl.flock(start_lock, fcntl.LOCK_EX)
                return _meet_locked(state, deadline)
        except OSError as error:
            # One that has just ended takes its directory with it, also from under us.
            if isinstance(error, FileNotFoundError) and time.monotonic() < deadline:
                continue
            message = f"cannot prepare {state.run}: {error.strerror}: {error.filename or state.run}"
            raise RendezvousError(
                message, "run as a user who may write there, or choose --state-dir"
            ) from error


def claim(state: StateDir) -> Claim:
    """Claim the supervisor's place. Raises RendezvousError, also if one runs already."""
    met = meet(state)
    if isinstance(met, Claim):
        return met
    met.close()
    raise RendezvousError(
        f"a supervisor runs already for {state.data}",
        "the other commands use it; choose another --state-dir for a second one",
    )


def start_supervisor(
    state: StateDir, claimed: Claim, command: Sequence[str] = COMMAND, linger: float = LINGER
) -> None:
    """Start a supervisor in the background that inherits the claim; the caller closes his copy."""
    import subprocess  # noqa: PLC0415  7 ms, and rarely needed
    import warnings  # noqa: PLC0415

    fds = (claimed.listener.fileno(), claimed.lock)
    words = [
        *command,
        *("serve", "--inherit", f"api={fds[0]},lock={fds[1]}", "--linger", str(linger)),
        *("--run", str(state.run), "--data", str(state.data)),
    ]
    try:
        with _open_log(state.supervisor_log) as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        raise RendezvousError(f"cannot start a supervisor: {error}") from error
    with warnings.catch_warnings():  # it outlives us on purpose
        warnings.simplefilter("ignore", ResourceWarning)
        del process


@contextlib.contextmanager
def open_address(path: Path) -> Iterator[str]:
    """Yield an address for `path` that a Unix socket can have, however long the path is."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def open_listener(path: Path) -> socket.socket:
    """Bind and listen at `path`, for our user only; a socket left there is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listener.fileno(), 0o600)  # bind(2) takes the mode from the socket
        with open_address(path) as address:
            listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _meet_locked(state: StateDir, deadline: float) -> socket.socket | Claim:
    while True:
        if connection := connect(state.api_socket):
            return connection
        if claimed := _claim_nowait(state):
            return claimed
        if time.monotonic() > deadline:
            raise RendezvousError(
                f"a supervisor holds {state.supervisor_lock} but does not answer",
                f"see {state.supervisor_log}; `fuser {state.supervisor_lock}` names the process",
            )
        time.sleep(0.01)  # flock(2) has no deadline, and a dying supervisor needs a moment


def _claim_nowait(state: StateDir) -> Claim | None:
    lock = try_lock(state.supervisor_lock)
    if lock is None:
        return None
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(os.close, lock)
        listener = open_listener(state.api_socket)
        on_failure.pop_all()
    return Claim(listener, lock)


@contextlib.contextmanager
def _open_log(path: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LARGEST_LOG:
            path.replace(path.with_name(path.name + ".1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield log
    finally:
        os.close(log)


def _make_directories(state: StateDir) -> None:
    for directory in (state.run, state.data):
        directory.parent.mkdir(0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(0o700)
    _check_owner(state.run, {os.geteuid()})
    if os.geteuid() and not state.run.parent.stat().st_mode & stat.S_ISVTX:  # as /tmp has
        _check_owner(state.run.parent, {os.geteuid(), 0})


def _check_owner(directory: Path, owners: set[int]) -> None:
    owner = directory.stat().st_uid
    if owner not in owners:
        raise RendezvousError(
            f"{directory} belongs to uid {owner}, not to uid {os.geteuid()}",
            "remove it, or choose another place with --state-dir",
        )
