"""The test VM as a machine of qorch's: up, its command's output passed on, down."""

import contextlib
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import attrs
import trio
from testvm.request import CHANNELS, NAME, Request, make_document, make_run_files
from testvm.terminal import connect, write_all

from qorch import open_supervisor
from qorch.console import read_end
from qorch.errors import NotFoundError
from qorch.load import load_document
from qorch.nursery import open_nursery
from qorch.progress import Progress
from qorch.sockets import bind_unix
from qorch.spec import Spec
from qorch.supervisor import Supervisor

CONSOLE_END = 4000  # bytes of the console that are shown when the VM died
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class VmError(Exception):
    """There is a VM, and no exit status of the command."""


class TimeUpError(Exception):
    """The request's time is up; the end of what the console printed."""


class SignalError(Exception):
    """A signal asked us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@attrs.frozen
class Vm:
    """The running VM: its supervisor, and our ends of its channels."""

    supervisor: Supervisor
    channels: Mapping[str, trio.SocketStream]


def read_console_end(supervisor: Supervisor) -> str:
    """The end of what the VM's console printed."""
    try:
        log = supervisor.find_log(NAME)
    except NotFoundError:
        return "there was none yet"
    return read_end(log, CONSOLE_END).decode(errors="replace")


async def run_vm(request: Request, guest: Path, directory: Path) -> int:
    """Run the command in a VM that lives in `directory`, and return its exit status.

    Raises VmError, SignalError, QorchError; TimeUpError when the request's time is up;
    BrokenPipeError when nobody reads the output.
    """
    initrd = directory / "initrd"
    write_initrd(request, guest, initrd)
    spec = load_document(make_document(request, guest, initrd, directory), directory)
    report = Reporter(verbose=request.verbose)
    # What ends the command is inside: the supervisor's own tasks go on until the VM is gone.
    async with open_supervisor(directory, report=report) as supervisor:
        try:
            async with open_nursery() as nursery:
                nursery.start_soon(raise_on_signal)
                with trio.fail_after(request.timeout or float("inf")):
                    vm = await start_vm(supervisor, spec, directory, report)
                    status = await pass_on_all(vm, terminal=request.terminal)
                nursery.cancel_scope.cancel()
        except trio.TooSlowError as error:
            raise TimeUpError(read_console_end(supervisor)) from error
        finally:
            with contextlib.suppress(NotFoundError):  # it never came to be
                await supervisor.kill_machine(NAME)
    return status


def write_initrd(request: Request, guest: Path, initrd: Path) -> None:
    """Write the initramfs of one run: the guest's and, after it, the request's files."""
    (modules,) = (guest / "lib" / "modules").iterdir()
    initrd.write_bytes((guest / "initrd").read_bytes() + make_run_files(request, modules))


async def raise_on_signal() -> NoReturn:
    """Wait for a signal."""
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async for number in signals:
            raise SignalError(number)
    raise AssertionError


@attrs.frozen
class Reporter:
    """Says on stderr what qorch does, and when, if somebody wants to know."""

    verbose: bool
    began: float = attrs.field(factory=time.monotonic)

    def __call__(self, progress: Progress) -> None:
        """Say it."""
        if self.verbose:
            words = f"{progress.kind} {progress.name}: {progress.step or progress.message}"
            print(f"testbed: {time.monotonic() - self.began:.2f} s  {words}", file=sys.stderr)


async def start_vm(supervisor: Supervisor, spec: Spec, directory: Path, report: Reporter) -> Vm:
    """Start the VM, which connects its channels to sockets of ours."""
    with contextlib.ExitStack() as stack:
        listeners = {
            name: trio.SocketListener(
                trio.socket.from_stdlib_socket(
                    stack.enter_context(bind_unix(directory / f"{name}.sock"))
                )
            )
            for name in CHANNELS
        }
        await supervisor.up(spec, report=report)
        channels = {name: await each.accept() for name, each in listeners.items()}
    return Vm(supervisor, channels)


async def pass_on_all(vm: Vm, *, terminal: bool) -> int:
    """Pass the command's output on until the VM ends; the command's exit status."""
    status = bytearray()
    async with open_nursery() as nursery:
        nursery.start_soon(pass_on, vm.channels["stdout"], sys.stdout.fileno())
        nursery.start_soon(pass_on, vm.channels["stderr"], sys.stderr.fileno())
        if terminal:
            nursery.start_soon(run_terminal, vm.supervisor)
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in vm.channels["status"]:
                status += data
    if not re.fullmatch(rb"\d+\n", status):
        raise VmError(
            f"the VM ended without an exit status; its console:\n{read_console_end(vm.supervisor)}"
        )
    return int(status)


async def pass_on(stream: trio.SocketStream, fd: int) -> None:
    """Write what comes to a file descriptor, until the VM ends."""
    with contextlib.suppress(trio.BrokenResourceError):  # a reset: QEMU died
        async for data in stream:
            await trio.to_thread.run_sync(write_all, fd, data)


async def run_terminal(supervisor: Supervisor) -> None:
    """Be the VM's console, until it ends."""
    with supervisor.open_console(NAME) as console:
        await connect(console)
