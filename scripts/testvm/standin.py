"""QEMU run by hand, until qorch has shares and channels."""

import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio


@attrs.define(eq=False)
class Vm:
    """A running VM: its channels by name, the log of its console."""

    channels: Mapping[str, trio.SocketStream]
    log: Path


@asynccontextmanager
async def open_vm(  # noqa: D103
    document: Mapping[str, Any], directory: Path
) -> AsyncIterator[Vm]:
    vm = document["vm"]["testbed"]
    log = directory / "console.log"
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-no-reboot", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]
    words += ["-smp", str(vm["cpus"]), "-m", vm["memory"].removesuffix("iB")]
    words += ["-kernel", vm["kernel"], "-initrd", vm["initrd"], "-append", vm["append"]]
    words += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    words += ["-serial", f"file:{log}"]
    channels, fds = {}, []
    for channel in vm["channel"]:
        name = channel["name"]
        ours, theirs = socket.socketpair()
        fds.append(theirs)
        words += ["-chardev", f"socket,id={name},fd={theirs.fileno()}"]
        words += ["-device", f"virtserialport,chardev={name},name={name}"]
        ours.setblocking(False)
        channels[name] = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    for share in vm["share"]:
        tag, path = share["tag"], share["path"]
        ro = ",readonly=on" if share.get("read_only") else ""
        words += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{ro}"]
        words += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    for index, disk in enumerate(vm["disk"]):
        file = directory / f"disk{index}"
        subprocess.run(["truncate", "-s", disk["size"].removesuffix("iB"), file], check=True)  # noqa: ASYNC221
        words += ["-drive", f"file={file},if=virtio,format=raw"]
    qemu = subprocess.Popen(words, pass_fds=[fd.fileno() for fd in fds], start_new_session=True)  # noqa: ASYNC220
    for fd in fds:
        fd.close()
    try:
        yield Vm(channels, log)
    finally:
        qemu.kill()
        qemu.wait()
