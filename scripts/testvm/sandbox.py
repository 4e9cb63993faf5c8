"""A place that leaves nothing behind, whatever ends it: namespaces of its own.

What runs in it is process 1 of a PID namespace, so the kernel kills all it has started when it
ends, and it is killed when the process that waits for it dies, `kill -9` included. Its files are
in a tmpfs that is mounted for these processes only, and gone with the last of them.
"""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

libc = ctypes.CDLL(None, use_errno=True)


def run_in_sandbox(directory: Path, main: Callable[[], int]) -> int:
    """Run `main` in a process of its own with an empty tmpfs on `directory`; its exit status.

    SIGINT, SIGTERM and SIGHUP are passed on to it; it feels a terminal's Ctrl-C twice. Raises
    OSError without CAP_SYS_ADMIN.
    """
    check(libc.unshare(CLONE_NEWPID))  # for the next child
    alive, ours = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        for number in SIGNALS:
            signal.signal(number, end_at_once)
        die_with_parent(alive)
        mount_all(directory)
        sys.exit(main())
    os.close(alive)

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in SIGNALS:
        signal.signal(number, forward)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def end_at_once(number: int, _frame: FrameType | None) -> None:
    """End, and all with us: what a signal does unless `main` has an answer of its own."""
    os._exit(128 + number)


def die_with_parent(alive: int) -> None:
    """Be killed when the parent dies; `alive` is a pipe that it holds open as long as it lives."""
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    if select.select([alive], [], [], 0)[0]:  # it died before we had asked
        os._exit(1)


def mount_all(directory: Path) -> None:
    """Mount what only we see: our processes on /proc, and an empty `directory`."""
    check(libc.unshare(CLONE_NEWNS))
    mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
    mount("proc", Path("/proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("testbed", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=700")


def mount(source: str, target: Path, kind: str | None, flags: int, data: str = "") -> None:
    """Mount a file system; OSError if the kernel will not."""
    encoded = kind.encode() if kind else None
    check(libc.mount(source.encode(), os.fsencode(target), encoded, flags, data.encode()))


def check(result: int) -> None:
    """Turn what a call to the C library returned into an exception."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
