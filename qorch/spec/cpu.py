"""What a vm.toml says about virtual CPUs."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from qorch.units import CpuSet, Pin, Value


@attrs.frozen(kw_only=True)
class CpuSpec:
    """`[vm.NAME.cpu]`, or `cpus = COUNT` for short.

    `flags` are CPU features, each with `+` or `-` before it, `properties` all else that QEMU's
    `-cpu` takes (`hv-relaxed = true`). vCPUs from `count` to `max` can be plugged; those listed in
    `plugged` are there from the start, as devices that can be unplugged.
    """

    count: int = 1
    max: int | None = None
    model: str | None = None
    flags: tuple[str, ...] = ()
    properties: Mapping[str, Value] = attrs.field(factory=dict)
    sockets: int | None = None
    dies: int | None = None
    clusters: int | None = None
    cores: int | None = None
    threads: int | None = None
    plugged: tuple[int, ...] = ()
    pin: tuple[Pin, ...] = ()
    emulator_pin: CpuSet | None = None


@attrs.frozen(kw_only=True)
class IothreadSpec:
    """`[[vm.NAME.iothread]]`: a thread for disks to do their I/O in.

    It polls for up to `poll_max_ns` before it sleeps; `poll_grow` and `poll_shrink` are how fast
    it adapts (QEMU's names).
    """

    id: str
    pin: CpuSet | None = None
    thread_pool_min: int | None = None
    thread_pool_max: int | None = None
    poll_max_ns: int | None = None
    poll_grow: int | None = None
    poll_shrink: int | None = None
