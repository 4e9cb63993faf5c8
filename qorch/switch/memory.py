"""Memory: how much, had of the host how, in which NUMA cells, and memory that is a device."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import attrs

from qorch.option import Properties, json_word, option_word, properties
from qorch.spec import NumaPolicy
from qorch.switch.device import DeviceModel, DeviceVirtio
from qorch.units import Size


@attrs.frozen(kw_only=True)
class Memory:
    """`-m`, in MiB; `slots` and `maxmem` are for plugging."""

    size: Size
    slots: int | None = None
    maxmem: Size | None = None

    def args(self) -> tuple[str, ...]:
        values = {"size": _mib(self.size), "slots": self.slots, "maxmem": _mib(self.maxmem)}
        return "-m", option_word(values)


def _mib(size: Size | None) -> str | None:
    return None if size is None else f"{size >> 20}M"


@attrs.frozen(kw_only=True)
class ObjectMemoryBackend:
    """`-object memory-backend-*`; a type has only some of the properties, the others stay None."""

    qom_type: str
    id: str
    size: Size
    mem_path: Path | None = None
    hugetlb: bool | None = None
    hugetlbsize: Size | None = None
    share: bool | None = None
    readonly: bool | None = None
    reserve: bool | None = None
    pmem: bool | None = None
    align: Size | None = None
    prealloc: bool | None = None
    prealloc_threads: int | None = None
    merge: bool | None = None
    dump: bool | None = None
    discard_data: bool | None = None
    host_nodes: tuple[int, ...] | None = None
    policy: NumaPolicy | None = None

    def properties(self) -> Properties:
        """As `object-add` takes them."""
        return properties(self)

    def args(self) -> tuple[str, ...]:
        return "-object", json_word(self.properties())


@attrs.frozen(kw_only=True)
class NumaNode:
    """`-numa node`: a cell; `cpus` are ranges of vCPU numbers, each with a key of its own."""

    nodeid: int
    cpus: tuple[str, ...] = ()
    initiator: int | None = None
    memdev: str | None = None

    def args(self) -> tuple[str, ...]:
        ranges = [f"cpus={cpus}" for cpus in self.cpus]
        return "-numa", option_word(
            "node",
            {"nodeid": self.nodeid},
            *ranges,
            {"initiator": self.initiator, "memdev": self.memdev},
        )


@attrs.frozen(kw_only=True)
class NumaDist:
    """`-numa dist`: how far one cell is from another; 10 is itself."""

    src: int
    dst: int
    val: int

    def args(self) -> tuple[str, ...]:
        return "-numa", option_word("dist", properties(self))


@attrs.frozen(kw_only=True)
class DeviceDimm(DeviceModel):
    """`-device pc-dimm` or `nvdimm`."""

    memdev: str
    node: int | None = None
    slot: int | None = None
    addr: int | None = None
    label_size: Size | None = None
    uuid: UUID | None = None
    unarmed: bool | None = None


@attrs.frozen(kw_only=True)
class DeviceVirtioMem(DeviceVirtio):
    """`-device virtio-mem-pci`: memory that grows and shrinks."""

    memdev: str
    node: int | None = None
    memaddr: int | None = None
    requested_size: Size | None = None
    block_size: Size | None = None
    prealloc: bool | None = None
    dynamic_memslots: bool | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-mem"


@attrs.frozen(kw_only=True)
class DeviceVirtioPmem(DeviceVirtio):
    """`-device virtio-pmem-pci`: a file as memory that keeps its content."""

    memdev: str
    memaddr: int | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-pmem"
