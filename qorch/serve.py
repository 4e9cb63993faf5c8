"""The supervisor as a process of its own, in the background or in the foreground."""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

from qorch.api import rendezvous
from qorch.api.activity import Activity
from qorch.api.serve import run_api
from qorch.errors import QorchError
from qorch.load import load_text
from qorch.nursery import open_nursery
from qorch.paths import StateDir
from qorch.progress import Progress, Report
from qorch.qmp import Transcript
from qorch.spec import Spec
from qorch.supervisor import Supervisor, open_supervisor
from qorch_net.errors import NetError
from qorch_storage.errors import StorageError

_log = logging.getLogger("qorch")


def serve(
    state: StateDir,
    *,
    api: int | None = None,
    lock: int | None = None,
    linger: float | None = None,
    stop_machines: bool = False,
) -> None:
    """Be the supervisor until SIGTERM or SIGINT; machines run on unless `stop_machines`.

    `api` and `lock` are inherited: the listening socket and the locked supervisor.lock. With
    `linger`, end after so many seconds in which nothing ran and nobody asked. Raises
    RendezvousError if another supervisor runs.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    claim = _claim(state, api, lock)
    main = functools.partial(_serve, state, claim, linger=linger, stop_machines=stop_machines)
    try:
        trio.run(main)
    except (QorchError, NetError, StorageError):
        raise
    except Exception:
        _log.exception("the supervisor ends of what it did not expect")
        raise


def run_foreground(
    state: StateDir,
    text: str,
    directory: Path,
    file: str,
    *,
    report: Report,
    wait: float | None = None,
    restart: bool = False,
) -> None:
    """Be the supervisor of one document's machines: end when they have ended.

    SIGTERM and SIGINT shut the guests down. Raises QorchError, RendezvousError.
    """
    spec = load_text(text, directory, file)
    claim = _claim(state, None, None)
    trio.run(
        functools.partial(
            _run_document, state, claim, spec, report=report, wait=wait, restart=restart
        )
    )


def _claim(state: StateDir, api: int | None, lock: int | None) -> rendezvous.Claim:
    if api is None or lock is None:
        return rendezvous.claim(state)
    for fd in (api, lock):
        os.set_inheritable(fd, False)
    return rendezvous.Claim(socket.socket(fileno=api), lock)


@asynccontextmanager
async def _open_all(
    state: StateDir, claim: rendezvous.Claim, report: Report
) -> AsyncIterator[tuple[Supervisor, Activity]]:
    """Supervisor and API, in a block that SIGTERM and SIGINT cancel."""
    with _closing(claim.listener):
        async with (
            open_supervisor(
                state, lock=claim.lock, report=report, transcripts=_find_transcripts(os.environ)
            ) as supervisor,
            open_nursery() as nursery,
        ):
            activity = await nursery.start(run_api, supervisor, claim.listener)
            _notify("READY=1")
            yield supervisor, activity
            _notify("STOPPING=1")
            state.api_socket.unlink(missing_ok=True)
            nursery.cancel_scope.cancel()


@contextmanager
def _closing(listener: socket.socket) -> Iterator[None]:
    """Close it; after an error it ends with the process: whoever waits there then reads the log."""
    try:
        yield
    except BaseException:
        listener.detach()
        raise
    listener.close()


async def _serve(
    state: StateDir, claim: rendezvous.Claim, *, linger: float | None, stop_machines: bool
) -> None:
    async with _open_all(state, claim, _report_to_log) as (supervisor, activity):
        await _until_signal(functools.partial(_wait_unneeded, supervisor, activity, linger))
        if stop_machines:
            await supervisor.stop_all(_report_to_log)


async def _run_document(
    state: StateDir,
    claim: rendezvous.Claim,
    spec: Spec,
    *,
    report: Report,
    wait: float | None,
    restart: bool,
) -> None:
    async def run() -> None:
        await supervisor.up(spec, report=report, wait=wait, restart=restart)
        await supervisor.wait_ended(spec.vms)

    async with _open_all(state, claim, report) as (supervisor, _activity):
        try:
            await _until_signal(run)
        finally:
            with trio.CancelScope(shield=True):
                await supervisor.stop_all(report)


async def _until_signal(wait: Callable[[], Awaitable[None]]) -> None:
    """Run `wait` to its end, or to the first SIGTERM or SIGINT."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_nursery() as nursery:

            async def run() -> None:
                await wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            await anext(signals)
            nursery.cancel_scope.cancel()


async def _wait_unneeded(supervisor: Supervisor, activity: Activity, linger: float | None) -> None:
    """Wait until nothing has run and nobody has asked for `linger` seconds; for ever with None."""
    if linger is None:
        await trio.sleep_forever()
    while True:
        await supervisor.wait_idle()
        await activity.wait_quiet(linger)
        if supervisor.is_idle:
            return


def _find_transcripts(environ: Mapping[str, str]) -> Callable[[str], Transcript] | None:
    """With QORCH_QMP_LOG=DIR, what is said to each QEMU and back goes to DIR/NAME.qmp."""
    directory = environ.get("QORCH_QMP_LOG")
    if not directory:
        return None

    def open_transcript(machine: str) -> Transcript:
        path = Path(directory) / f"{machine}.qmp"

        def write(direction: str, line: bytes) -> None:
            with suppress(OSError), path.open("ab") as file:  # a full disk ends no machine
                file.write((b"> " if direction == "sent" else b"< ") + line + b"\n")

        return write

    return open_transcript


def _report_to_log(progress: Progress) -> None:
    words = (progress.kind, progress.name, progress.step or progress.message)
    _log.info("%s %s: %s", *words)


def _notify(state: str) -> None:
    """Tell systemd, if it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        notify.send(state.encode())
