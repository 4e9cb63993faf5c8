"""What is asked of the test VM, as a vm.toml's content and as files for its initramfs."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from guests.cpio import Archive

NAME = "testbed"
CHANNELS = ("stdout", "stderr", "status")


@attrs.frozen(kw_only=True)
class Request:
    """A command, and the VM it wants; `terminal` connects it to ours."""

    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    modules: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    writable: tuple[Path, ...] = ()
    cpus: int = 2
    memory: str = "4GiB"
    timeout: float | None = None
    terminal: bool = False
    verbose: bool = False

    @property
    def shares(self) -> dict[str, Path]:
        """The writable directories by the tags of their shares."""
        return {f"rw{index}": path for index, path in enumerate(self.writable)}


def make_document(request: Request, guest: Path, initrd: Path, sockets: Path) -> dict[str, Any]:
    """Return the VM as qorch takes it; `guest` is where scripts/guest built it.

    Each channel is connected to a socket in the directory `sockets`, such as `stdout.sock`.
    """
    share = {"type": "9p", "security_model": "none", "multidevs": "remap"}
    vm = {
        "accel": "tcg",  # the same everywhere; and it emulates AMD's SVM, so KVM works inside
        "cpus": request.cpus,
        "memory": request.memory,
        "kernel": str(guest / "vmlinux"),
        "initrd": str(initrd),
        "append": (guest / "cmdline").read_text().strip(),
        "on_reboot": "shutdown",  # which a panic ends in
        "share": [
            {**share, "tag": "root", "path": "/", "read_only": True},
            *({**share, "tag": tag, "path": str(path)} for tag, path in request.shares.items()),
        ],
        "channel": [
            {"name": name, "backend": {"path": str(sockets / f"{name}.sock"), "server": False}}
            for name in CHANNELS
        ],
        "disk": [{"size": size} for size in request.disks],
    }
    return {"vm": {NAME: vm}}


def make_run_files(request: Request, modules: Path) -> bytes:
    """Return the cpio archive with /testbed; the kernel takes it after the initramfs proper.

    `modules` is the directory with the kernel's modules, which the VM sees at the same path.
    """
    conf = {
        "modules": str(modules),
        "load": " ".join(request.modules),
        "rw": " ".join(f"{tag}:{path}" for tag, path in request.shares.items()),
        "directory": str(request.directory),
        "terminal": "yes" if request.terminal else "",
    }
    archive = Archive()
    archive.add_file("testbed/conf", make_assignments(conf))
    archive.add_file("testbed/env", make_assignments(request.environment))
    archive.add_file("testbed/command", f"exec {shlex.join(request.command)}\n".encode())
    return archive.finish()


def make_assignments(variables: Mapping[str, str]) -> bytes:
    """Return shell assignments."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()).encode()
