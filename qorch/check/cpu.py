"""Virtual CPUs, threads and pins."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from qorch.errors import Problem
from qorch.spec import CpuSpec, MachineSpec

_LEVELS = ("sockets", "dies", "clusters", "cores", "threads")
_POOL_MAX = 64  # threads; QEMU's default (include/block/aio.h)


def find_cpu_problems(vm: MachineSpec) -> Iterator[Problem]:
    """What is wrong with a machine's vCPUs and I/O threads; paths start below the machine."""
    yield from _counts(vm.cpu)
    yield from _topology(vm.cpu)
    for index, flag in enumerate(vm.cpu.flags):
        if len(flag) < 2 or flag[0] not in "+-":
            name = flag.strip("+-") or "vmx"
            hint = f'write "+{name}" or "-{name}"'
            yield Problem(f".cpu.flags[{index}]", f"{flag!r} is neither added nor removed", hint)
    seen: set[str] = set()
    for index, thread in enumerate(vm.iothreads):
        if thread.id in seen:
            yield Problem(
                f".iothread[{index}].id",
                f"there is an iothread {thread.id!r} already",
                "give it another id",
            )
        seen.add(thread.id)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", thread.id):
            hint = "a letter first, then letters, digits, '-', '.' and '_'"
            yield Problem(f".iothread[{index}].id", f"{thread.id!r} is no id", hint)
        low, high = thread.thread_pool_min, thread.thread_pool_max
        if low is not None and low > (_POOL_MAX if high is None else high):
            path = f".iothread[{index}].thread_pool_min"
            yield Problem(path, f"{low} is more than thread_pool_max", "thread_pool_max = …")


def _counts(cpu: CpuSpec) -> Iterator[Problem]:
    if cpu.count < 1:
        yield Problem(".cpu.count", "a machine has at least one CPU", "count = 1")
    most = cpu.count if cpu.max is None else cpu.max
    if most < cpu.count:
        yield Problem(
            ".cpu.max", f"is less than count, {cpu.count}", "max = … is how many there can be"
        )
    if cpu.pin and not cpu.count + len(cpu.plugged) <= len(cpu.pin) <= max(most, cpu.count):
        yield Problem(
            ".cpu.pin",
            f"pins {len(cpu.pin)} of {cpu.count + len(cpu.plugged)} vCPUs",
            'give one set of host CPUs per vCPU, or "any"',
        )
    for index, vcpu in enumerate(cpu.plugged):
        path = f".cpu.plugged[{index}]"
        if not cpu.count <= vcpu < most:
            hint = f"those from {cpu.count} to {most - 1} can be" if most > cpu.count else None
            yield Problem(path, f"vCPU {vcpu} cannot be plugged", hint or "give max = …, too")
        elif vcpu in cpu.plugged[:index]:
            yield Problem(path, f"vCPU {vcpu} is there already", "name each once")


def _topology(cpu: CpuSpec) -> Iterator[Problem]:
    given = {level: value for level in _LEVELS if (value := getattr(cpu, level)) is not None}
    for level, value in given.items():
        if value < 1:
            yield Problem(
                f".cpu.{level}", f"{value} {level} are none", "1 or more, or leave it out"
            )
            return
    if given.get("clusters", 1) > 1:
        yield Problem(".cpu.clusters", "x86 CPUs have no clusters", "leave it out, or use dies")
        return
    total = cpu.max or cpu.count + len(cpu.plugged)
    product = math.prod(given.values())
    open_ = {"sockets", "cores"} - given.keys()
    if product != total and (not open_ or total % product):
        shown = " x ".join(f"{value} {level}" for level, value in given.items())
        key = "max" if cpu.max else "count"
        yield Problem(
            ".cpu",
            f"{shown} = {product}, which does not make {total} vCPUs ({key})",
            "their product is how many there are",
        )
