"""Machines."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from qorch.check.board import find_board_problems
from qorch.check.cloud_init import find_cloud_init_problems
from qorch.check.cpu import find_cpu_problems
from qorch.check.device import find_device_problems
from qorch.check.disk import find_disk_problems
from qorch.check.memory import find_memory_problems
from qorch.check.share import find_share_problems
from qorch.errors import Problem
from qorch.spec import MachineSpec, ReadySpec


def find_machine_problems(vm: MachineSpec) -> Iterator[Problem]:
    """What is wrong with a machine; paths start below it."""
    yield from find_board_problems(vm)
    yield from find_cpu_problems(vm)
    yield from find_memory_problems(vm)
    if not _boots(vm):
        yield Problem("", "has nothing to boot from", "give it a [[disk]] or a kernel")
    for key in ("initrd", "append"):
        if getattr(vm, key) is not None and vm.kernel is None:
            yield Problem(f".{key}", "goes with a kernel", "give kernel = …, too")
    for index, disk in enumerate(vm.disks):
        for problem in find_disk_problems(disk):
            yield attrs.evolve(problem, path=f".disk[{index}]{problem.path}")
    yield from find_device_problems(vm)
    yield from find_share_problems(vm)
    if vm.cloud_init is not None:
        yield from find_cloud_init_problems(vm.cloud_init)
    yield from _ready(vm.ready)


def _boots(vm: MachineSpec) -> bool:
    """Whether there is something to boot from, or nothing is wanted to be."""
    named = [
        *(nic.bootindex for nic in vm.nics),
        *(hostdev.bootindex for hostdev in vm.hostdevs),
        *(redir.bootindex for redir in vm.usb_redirs),
        *(share.bootindex for share in vm.shares),
    ]
    return bool(vm.disks or vm.kernel or not vm.boot.auto or set(named) - {None})


def _ready(ready: ReadySpec) -> Iterator[Problem]:
    if ready.console is not None and ready.tcp is not None:
        yield Problem(".ready", "console and tcp exclude each other", "keep one of them")
    try:
        re.compile(ready.console or "")
    except re.error as error:
        yield Problem(
            ".ready.console",
            f"is not a regular expression: {error}",
            r"put '\' before what stands for itself, such as '\('",
        )
    if ready.tcp is not None and not 0 < ready.tcp < 1 << 16:
        yield Problem(".ready.tcp", f"{ready.tcp} is not a TCP port", "1 to 65535")
