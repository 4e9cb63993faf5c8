"""Virtual CPUs: `-cpu`, `-smp`, those that are devices, and threads for I/O."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from qorch.option import Properties, json_word, option_word, properties
from qorch.units import Value


@attrs.frozen(kw_only=True)
class Cpu:
    """`-cpu`: a model, and features and properties that differ from it."""

    model: str
    features: Mapping[str, Value] = attrs.field(factory=dict)

    def args(self) -> tuple[str, ...]:
        return "-cpu", option_word(self.model, self.features)


@attrs.frozen(kw_only=True)
class Smp:
    """`-smp`: what is left out QEMU chooses, cores before sockets."""

    cpus: int
    maxcpus: int | None = None
    sockets: int | None = None
    dies: int | None = None
    clusters: int | None = None
    cores: int | None = None
    threads: int | None = None

    def args(self) -> tuple[str, ...]:
        return "-smp", option_word(properties(self))


@attrs.frozen(kw_only=True)
class DeviceCpu:
    """`-device MODEL-x86_64-cpu`: a vCPU that can be unplugged."""

    model: str
    id: str
    socket_id: int
    die_id: int
    core_id: int
    thread_id: int

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        values = properties(self)
        return {"driver": f"{values.pop('model')}-x86_64-cpu", **values}

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class ObjectIothread:
    """`-object iothread`."""

    id: str
    poll_max_ns: int | None = None
    poll_grow: int | None = None
    poll_shrink: int | None = None
    thread_pool_min: int | None = None
    thread_pool_max: int | None = None

    def properties(self) -> Properties:
        """As `object-add` takes them."""
        return {"qom-type": "iothread", **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-object", json_word(self.properties())
