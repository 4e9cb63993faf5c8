"""The test VM's life: up, its command's output passed on, down."""

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import NoReturn

import trio
from testvm.request import Request, make_document, make_run_files
from testvm.standin import Vm, open_vm

from qorch.console import read_end
from qorch.nursery import open_nursery

CHUNK = 1 << 16
CONSOLE_END = 4000  # bytes of the console that are shown when the VM died
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class VmError(Exception):
    """There is a VM, and no exit status of the command."""


class SignalError(Exception):
    """A signal asked us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def run_vm(request: Request, guest: Path, directory: Path) -> int:
    """Run the command in a VM that lives in `directory`, and return its exit status.

    Raises VmError, SignalError, QorchError; trio.TooSlowError when the request's time is up;
    BrokenPipeError when nobody reads the output.
    """
    initrd = directory / "initrd"
    write_initrd(request, guest, initrd)
    document = make_document(request, guest, initrd)
    async with open_nursery() as nursery:
        nursery.start_soon(raise_on_signal)
        with trio.fail_after(request.timeout or float("inf")):
            async with open_vm(document, directory) as vm:
                status = await pass_on_all(vm)
        nursery.cancel_scope.cancel()
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


async def pass_on_all(vm: Vm) -> int:
    """Pass the command's output on until the VM ends; the command's exit status."""
    status = bytearray()
    async with open_nursery() as nursery:
        nursery.start_soon(pass_on, vm.channels["stdout"], sys.stdout.fileno())
        nursery.start_soon(pass_on, vm.channels["stderr"], sys.stderr.fileno())
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in vm.channels["status"]:
                status += data
    if not re.fullmatch(rb"\d+\n", status):
        end = read_end(vm.log, CONSOLE_END).decode(errors="replace")
        raise VmError(f"the VM ended without an exit status; its console:\n{end}")
    return int(status)


async def pass_on(stream: trio.SocketStream, fd: int) -> None:
    """Write what comes to a file descriptor, until the VM ends."""
    with contextlib.suppress(trio.BrokenResourceError):  # a reset: QEMU died
        async for data in stream:
            await trio.to_thread.run_sync(write_all, fd, data)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it; blocking."""
    while data:
        data = data[os.write(fd, data) :]
