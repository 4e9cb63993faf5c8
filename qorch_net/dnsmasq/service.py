"""dnsmasq: DHCP and DNS of one network.

Files of a network lie in a directory of its own. `dnsmasq.conf` is read at the start, `hosts` and
`dhcp-hosts` again on SIGHUP. `loaded` says for which contents dnsmasq was last told to read them:
written after the telling, so that a SIGKILL in between leads to one reload too many, never to one
too few. dnsmasq daemonizes: when the program returns, its sockets are bound. It logs to syslog,
which bounds what a guest can make it write.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from qorch_net.dnsmasq.config import (
    CONFIG,
    DHCP_HOSTS,
    HOSTS,
    LEASES,
    LOADED,
    PID,
    Files,
    make_digest,
    make_loaded,
)
from qorch_net.dnsmasq.leases import ActiveLease, drop_stale, is_stale, parse_leases
from qorch_net.errors import NetError
from qorch_net.listeners import describe, find_listeners
from qorch_net.plan import Transport
from qorch_net.process import (
    CAP_SYS_PTRACE,
    VARIABLE,
    Process,
    find_processes,
    has_capability,
    send_signal,
    stop_processes,
    wait_exiting,
    wait_process,
)

if TYPE_CHECKING:
    from qorch_net.plan import Lease, Mark

_OURS: Final = (CONFIG, HOSTS, DHCP_HOSTS, LOADED)
_ADDRESS_IN_USE: Final = 2  # EC_BADNET in dnsmasq.h
_PORTS: Final = (
    (Transport.UDP, 53),
    (Transport.TCP, 53),
    (Transport.UDP, 67),
    (Transport.UDP, 547),
)
_SECONDS_TO_START: Final = 15
_INSTALL: Final = "apt-get install dnsmasq-base"


@attrs.frozen(kw_only=True)
class Service:
    """The dnsmasq of one network: found by its mark, its files in `directory`."""

    mark: Mark
    directory: Path
    program: str = "dnsmasq"

    def find_processes(self) -> list[Process]:
        """Find the main processes, not their children that answer DNS over TCP. One is right."""
        return _without_children(
            [p for p in find_processes(self.mark.owner) if p.mark == self.mark]
        )

    def find_files(self) -> Files:
        """Find those of our files that exist, with their contents."""
        found = {}
        for name in _OURS:
            with suppress(FileNotFoundError):
                found[name] = (self.directory / name).read_bytes()
        return found

    def write_files(self, files: Files) -> None:
        """Make our files be `files`, each replaced atomically; no files, no directory."""
        if not files:
            self.remove_files()
            return
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o755)
        for name in set(_OURS) - set(files):
            (self.directory / name).unlink(missing_ok=True)
        self._write_each(files)

    def remove_files(self) -> None:
        """Remove the directory with all that we and dnsmasq wrote; a stranger's file stays."""
        for name in (*_OURS, LEASES, PID):
            (self.directory / name).unlink(missing_ok=True)
            (self.directory / f"{name}.new").unlink(missing_ok=True)
        with suppress(OSError):
            self.directory.rmdir()

    def run(self, leases: tuple[Lease, ...], running: list[Process], lock: int) -> None:
        """Make one dnsmasq run with the files as they are: reload, restart or start it.

        Restarted also where somebody still holds an address that is now kept for another: dnsmasq
        would not give it away before the old lease ends. `running` is what `find_processes` said.
        `lock` is a file descriptor to be held until the new process carries its mark.
        """
        files = self.find_files()
        loaded = files.get(LOADED, b"").split()
        stale = self._has_stale(leases)
        if is_sound(running) and loaded[:1] == [make_digest(files, CONFIG)] and not stale:
            send_signal(running[0].pid, self.mark, signal.SIGHUP)
        else:
            if running:
                stop_processes(self.mark)
            if stale:
                self._drop_stale(leases)
            self._start(lock)
        self._write_each(make_loaded(files))

    def _start(self, lock: int) -> None:
        words = [self.program, f"--conf-file={self.directory / CONFIG}"]
        status, said = self._launch(words, lock)
        if status == _ADDRESS_IN_USE:
            # One of ours whose files are lost; or one that was killed a moment ago and has lost its
            # mark before it gives up its sockets.
            stop_processes(self.mark)
            wait_exiting(Path(self.program).name)
            status, said = self._launch(words, lock)
        if status == _ADDRESS_IN_USE:
            raise NetError(f"dnsmasq of {self.mark.label} cannot start: {said}", _blame())
        if status:
            line = _find_line(said, self.find_files().get(CONFIG, b"").decode(errors="replace"))
            raise NetError(
                f"{shlex.join(words)} failed: {said}{f': {line}' if line else ''}",
                "see the network's DHCP options" if line else "run the line by hand to see more",
            )

    def _launch(self, words: list[str], lock: int) -> tuple[int, str]:
        """Run dnsmasq until it is a daemon; give its exit status and what it said."""
        environment = {VARIABLE: str(self.mark), "PATH": os.defpath, "LC_ALL": "C"}
        with os.fdopen(os.memfd_create("stderr"), "w+b") as output:
            try:
                process = subprocess.Popen(
                    words,
                    env=environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=(lock,),  # dnsmasq closes it first of all
                )
            except OSError as error:
                raise NetError(f"cannot run {self.program}: {error.strerror}", _INSTALL) from error
            if not wait_process(process, _SECONDS_TO_START):
                raise NetError(f"{shlex.join(words)} is not ready after {_SECONDS_TO_START} s")
            output.seek(0)
            return process.returncode, output.read().decode(errors="replace").strip()

    def _write_each(self, files: Files) -> None:
        for name, content in files.items():
            _write(self.directory / name, content)

    def _has_stale(self, leases: tuple[Lease, ...]) -> bool:
        return any(is_stale(active, leases) for active in _read_leases(self.directory))

    def _drop_stale(self, leases: tuple[Lease, ...]) -> None:
        path = self.directory / LEASES
        text = drop_stale(path.read_text(errors="surrogateescape"), leases)
        _write(path, text.encode(errors="surrogateescape"))


def _find_line(said: str, config: str) -> str | None:
    """The line of the configuration, gone by the time that somebody reads of it."""
    match = re.search(r" at line (\d+) of ", said)
    lines = config.splitlines()
    return lines[int(match[1]) - 1] if match and 0 < int(match[1]) <= len(lines) else None


def find_program(program: Path | str) -> str:
    """Find the path of dnsmasq. Raises NetError if it is not installed."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    if found := shutil.which(str(program), path=path):
        return found
    raise NetError(f"{program} is not installed", _INSTALL)


def find_dnsmasq(owner: str) -> dict[str, int]:
    """Find the pid of each network's dnsmasq in this network namespace, to be watched by pidfd."""
    found = _without_children([p for p in find_processes(owner) if p.here])
    return {p.mark.network: p.pid for p in found if p.mark.network}


def find_leases(run_dir: Path, network: str) -> tuple[ActiveLease, ...]:
    """Find the leases that dnsmasq has given to the guests of a network."""
    return _read_leases(run_dir / network)


def is_sound(running: list[Process]) -> bool:
    """Whether this is one dnsmasq, in the network namespace of the calling thread."""
    return len(running) == 1 and running[0].here


def pick_user(directory: Path) -> str:
    """`nobody` where dnsmasq can live without root, else `root`.

    It must still reach its files, and we must still see its mark in /proc (CAP_SYS_PTRACE). A user
    namespace may have no `nobody`.
    """
    everyone = all(path.stat().st_mode & 0o001 for path in directory.parents if path.exists())
    everybody_mapped = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    sees = os.geteuid() == 0 and has_capability(CAP_SYS_PTRACE)
    return "nobody" if everyone and everybody_mapped and sees else "root"


def _blame() -> str:
    """Name who holds the ports on every address: one that binds its own is in nobody's way."""
    found = [x for x in find_listeners(_PORTS) if x.address.is_unspecified]
    holders = sorted({describe(listener) for listener in found})
    cure = "let it listen on its own interfaces only (dnsmasq: bind-interfaces)"
    if not holders:
        return f"another DNS or DHCP server holds the address: `ss -lntup` names it; {cure}"
    return f"another DNS or DHCP server holds the address: {', '.join(holders)}; {cure}"


def _without_children(processes: list[Process]) -> list[Process]:
    pids = {process.pid for process in processes}
    return [process for process in processes if process.parent not in pids]


def _read_leases(directory: Path) -> tuple[ActiveLease, ...]:
    try:
        return parse_leases((directory / LEASES).read_text(errors="replace"))
    except FileNotFoundError:
        return ()


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(content)
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise NetError(
            f"cannot write {path}: {error.strerror}", "see space and rights there"
        ) from error
