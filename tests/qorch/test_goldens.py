import contextlib
import fcntl
import os
import struct
import subprocess
import threading
from pathlib import Path

import goldens
import pytest
import trio

from qorch.argv import make_argv, make_switches
from qorch.handles import (
    Connection,
    Credential,
    Handles,
    ListeningSocket,
    LogFile,
    Tap,
    find_handles,
)
from qorch.helpers import start_helpers
from qorch.plan import MachinePlan
from qorch.process import start_process
from qorch.qmp import open_monitor
from qorch.resources import make_store
from qorch.sockets import bind_unix

CACHE = Path(os.environ.get("QORCH_CACHE", Path(__file__).parents[2] / ".cache"))
TINY = CACHE / "guests" / "tiny"
QEMU = Path("/usr/bin/qemu-system-x86_64")


@pytest.mark.parametrize("name", goldens.find_names())
def test_the_command_line_is_the_golden_one(name):
    """`scripts/goldens` shows the difference and, with --write, takes it over."""
    assert goldens.make_lines(name) == (goldens.DIRECTORY / f"{name}.argv").read_text()


@pytest.mark.parametrize("name", goldens.find_names())
def test_every_word_comes_from_a_switch(name):
    """The command line is QEMU and the switches in their order, nothing else."""
    plan = goldens.plan_golden(name)
    handles = Handles.from_numbers(plan)
    words = [word for switch in make_switches(plan, handles) for word in switch.args()]
    assert make_argv(plan, handles, QEMU) == (str(QEMU), *words)
    assert len(set(handles.fds)) == len(handles.fds)


def make_files(plan: MachinePlan) -> None:
    """What a plan needs of the host besides images."""
    if plan.firmware.variables:
        plan.firmware.variables.path.parent.mkdir(parents=True, exist_ok=True)
    make_store(plan, lambda _step: None, contextlib.ExitStack())
    directories = [share.spec.path for share in plan.shares]
    directories += [piece.backend.path for piece in plan.memory.pieces if piece.backend.path]
    for path in directories:
        if not path.suffix:
            path.mkdir(parents=True, exist_ok=True)
    for item in plan.fw_cfg:
        if item.file:
            item.file.write_text("{}")


def make_images(plan: MachinePlan) -> None:
    """All images of a plan, from the bottom up, and its seed and kernel."""
    for disk in plan.disks:
        below = None
        for image in reversed(disk.chain):
            image.path.parent.mkdir(parents=True, exist_ok=True)
            base = ["-b", below.path, "-F", below.format] if below else []
            words = ["qemu-img", "create", "-q", "-f", image.format, *base, image.path, "8M"]
            subprocess.run(words, check=True)
            below = image
    if plan.seed:
        plan.seed.path.parent.mkdir(parents=True, exist_ok=True)
        plan.seed.path.write_bytes(bytes(4096))
    for path, name in ((plan.kernel, "vmlinuz"), (plan.initrd, "initrd.gz")):
        if path:
            if not (TINY / name).exists():
                pytest.skip("needs a kernel: scripts/guest tiny")
            path.symlink_to(TINY / name)


def open_tap() -> int:
    """A tap in a network namespace that is gone with it."""
    fds = []

    def run() -> None:
        import ctypes

        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET, of this thread
            return
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        tap_no_pi_vnet_hdr = 0x2 | 0x1000 | 0x4000
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"golden", tap_no_pi_vnet_hdr))
        fds.append(fd)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if not fds:
        pytest.skip("needs root")
    return fds[0]


@contextlib.contextmanager
def open_handles(plan: MachinePlan, directory: Path):
    """What QEMU inherits, for real."""
    with contextlib.ExitStack() as stack:
        helpers = start_helpers(
            plan, data=directory, env=os.environ, report=lambda _step: None, undo=stack
        )
        numbers = {}
        for handle in find_handles(plan):
            match handle:
                case ListeningSocket(name):
                    socket = stack.enter_context(bind_unix(directory / f"{name}.sock"))
                    numbers[name] = socket.fileno()
                case LogFile(name):
                    numbers[name] = os.open(directory / name, os.O_WRONLY | os.O_CREAT)
                    stack.callback(os.close, numbers[name])
                case Tap(name):
                    numbers[name] = open_tap()
                    stack.callback(os.close, numbers[name])
                case Credential(name):
                    numbers[name] = os.memfd_create("credential")
                    stack.callback(os.close, numbers[name])
                    os.write(numbers[name], b"io.systemd.credential:a=b")
                case Connection(name):
                    numbers[name] = helpers[name].connection.fileno()
        yield Handles(numbers)


@pytest.mark.live
@pytest.mark.parametrize("name", goldens.find_names())
async def test_qemu_accepts_the_golden_command_line(name, tmp_path):
    """Started with real descriptors it answers that it is waiting, and every device is there."""
    plan = goldens.plan_golden(name, tmp_path)
    if plan.accel.value == "kvm" and not os.access("/dev/kvm", os.W_OK):
        pytest.skip("needs /dev/kvm")
    make_images(plan)
    make_files(plan)
    words = tmp_path / "words"
    with open_handles(plan, tmp_path) as handles, words.open("wb") as output:
        process = start_process(
            make_argv(plan, handles, QEMU),
            mark=plan.mark,
            fds=handles.fds,
            output=output.fileno(),
            env=os.environ,
        )
        with contextlib.closing(process):
            try:
                with trio.fail_after(60):
                    async with open_monitor(tmp_path / "qmp.sock") as monitor:
                        status = await monitor.execute("query-status")
                        devices = await monitor.execute("qom-list", {"path": "/machine/peripheral"})
                        await monitor.quit()
                    status_code = await process.wait()
            finally:
                if process.is_alive:
                    os.kill(process.pid, 9)
    assert status["status"] == "prelaunch"
    ids = {f"{part.id}-dev" for part in (*plan.disks, *plan.nics)}
    assert ids <= {device["name"] for device in devices}
    assert status_code == 0
    expected = "host doesn't support requested feature"  # of kvm_pvm; all else is a mistake
    assert [line for line in words.read_text().splitlines() if expected not in line] == []
