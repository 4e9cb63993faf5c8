import contextlib
import fcntl
import os
import struct
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
    Password,
    Tap,
    find_handles,
)
from qorch.helpers import start_helpers
from qorch.plan import MachinePlan
from qorch.process import start_process
from qorch.qmp import open_monitor
from qorch.resources import make_store
from qorch.sockets import bind_unix
from qorch.switch.device import Device
from qorch_storage.plan import ImageFormat
from qorch_storage.run import run_create

ELSEWHERE = {
    "confidential",
    "hostdevs",
}  # for hosts with devices that few have: see the test of properties
CACHE = Path(os.environ.get("QORCH_CACHE", Path(__file__).parents[2] / ".cache"))
TINY = CACHE / "guests" / "tiny"
SIZE = "1440K"  # a floppy, too
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
    for disk in plan.disks:
        if disk.spec.passphrase_file:
            disk.spec.passphrase_file.write_text("secret")
    if plan.vnc:
        plan.vnc.socket.parent.mkdir(parents=True, exist_ok=True)
        if plan.vnc.spec.password_file:
            plan.vnc.spec.password_file.write_text("secret")


def make_images(plan: MachinePlan) -> None:
    """All images of a plan, from the bottom up, and its seed and kernel."""
    for disk in plan.disks:
        below = None
        for image in reversed(disk.chain):
            image.path.parent.mkdir(parents=True, exist_ok=True)
            base = ["-b", below.path, "-F", below.format] if below else []
            luks = image.format is ImageFormat.LUKS
            secret = ["--object", "secret,id=s,data=secret", "-o", "key-secret=s,iter-time=1"]
            words = ["qemu-img", "create", "-q", "-f", image.format, *base, image.path, SIZE]
            run_create([*map(str, words), *(secret if luks else ())])
            below = image
    if plan.seed:
        plan.seed.path.parent.mkdir(parents=True, exist_ok=True)
        plan.seed.path.write_bytes(bytes(4096))
    for path, name in ((plan.kernel, "vmlinuz"), (plan.initrd, "initrd.gz")):
        if path:
            if not (TINY / name).exists():
                pytest.skip("needs a kernel: scripts/guest tiny")
            path.symlink_to(TINY / name)


def open_tap(queues: int) -> list[int]:
    """A tap in a network namespace that is gone with it."""
    fds: list[int] = []

    def run() -> None:
        import ctypes

        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET, of this thread
            return
        flags = 0x2 | 0x1000 | 0x4000 | (0x100 if queues > 1 else 0)  # tap, no PI, vnet, queues
        for _ in range(queues):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"golden", flags))
            fds.append(fd)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if not fds:
        pytest.skip("needs root")
    return fds


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
                case Tap(_, tap):
                    for name, fd in zip(handle.names, open_tap(tap.queues), strict=True):
                        numbers[name] = fd
                        stack.callback(os.close, fd)
                case Credential(name):
                    numbers[name] = os.memfd_create("credential")
                    stack.callback(os.close, numbers[name])
                    os.write(numbers[name], b"io.systemd.credential:a=b")
                case Password(name):
                    numbers[name] = os.memfd_create("password")
                    stack.callback(os.close, numbers[name])
                    os.write(numbers[name], b"letmein")
                case Connection(name):
                    numbers[name] = helpers[name].connection.fileno()
        yield Handles(numbers)


@pytest.mark.live
@pytest.mark.parametrize("name", sorted({*goldens.find_names()} - ELSEWHERE))
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
    switches = make_switches(plan, Handles.from_numbers(plan))
    ids = {switch.id for switch in switches if isinstance(switch, Device)}
    assert ids <= {device["name"] for device in devices}
    assert status_code == 0
    # features of kvm_pvm, and where a pty is; all else is a mistake
    expected = ("host doesn't support requested feature", "char device redirected to")
    lines = words.read_text().splitlines()
    assert [line for line in lines if not any(text in line for text in expected)] == []


@pytest.mark.live
@pytest.mark.parametrize("name", sorted(ELSEWHERE))
async def test_qemu_knows_the_properties_of_devices_that_this_host_lacks(name, tmp_path):
    """Every property of every device is one that QEMU's own list has."""
    plan = goldens.plan_golden(name)
    devices = [
        switch.properties()
        for switch in make_switches(plan, Handles.from_numbers(plan))
        if isinstance(switch, Device)
    ]
    with bind_unix(tmp_path / "qmp.sock") as listener, (tmp_path / "words").open("wb") as output:
        words = ["-machine", "none", "-nodefaults", "-display", "none"]
        chardev = f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off"
        process = start_process(
            [str(QEMU), *words, "-chardev", chardev, "-mon", "chardev=qmp,mode=control"],
            mark="test",
            fds=[listener.fileno()],
            output=output.fileno(),
            env=os.environ,
        )
    with contextlib.closing(process), trio.fail_after(60):
        async with open_monitor(tmp_path / "qmp.sock") as monitor:
            for device in devices:
                typename = device.pop("driver")
                known = await monitor.execute("device-list-properties", {"typename": typename})
                names = {item["name"] for item in known} | {"id", "bus"}
                assert device.keys() <= names, typename
            await monitor.quit()
        await process.wait()
