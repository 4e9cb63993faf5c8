"""What a vm.toml says about memory and NUMA."""

from __future__ import annotations

import enum
from pathlib import Path
from uuid import UUID

import attrs

from qorch.spec.common import AddressSpec, VirtioSpec
from qorch.units import CpuSet, Size


class MemoryBackendType(enum.Enum):
    """Where guest memory comes from: QEMU's `memory-backend-*`."""

    RAM = "ram"
    MEMFD = "memfd"
    FILE = "file"


class NumaPolicy(enum.Enum):
    """How the host's kernel spreads memory over its nodes (qapi HostMemPolicy)."""

    DEFAULT = "default"
    PREFERRED = "preferred"
    BIND = "bind"
    INTERLEAVE = "interleave"


@attrs.frozen(kw_only=True)
class MemoryBackendSpec:
    """`backend = { … }`: how memory is had of the host.

    `hugepages` takes the host's default size unless `page_size` says which. `merge` is KSM, `dump`
    whether a core dump contains it, `discard` whether its content is thrown away at the end.
    """

    type: MemoryBackendType | None = None
    path: Path | None = None
    hugepages: bool = False
    page_size: Size | None = None
    shared: bool | None = None
    prealloc: bool | None = None
    prealloc_threads: int | None = None
    merge: bool | None = None
    dump: bool | None = None
    discard: bool | None = None
    host_nodes: CpuSet | None = None
    policy: NumaPolicy | None = None


@attrs.frozen(kw_only=True)
class BalloonSpec:
    """`[vm.NAME.memory.balloon]`, or `balloon = false`."""

    enabled: bool = True
    free_page_reporting: bool | None = None
    deflate_on_oom: bool | None = None
    stats_interval: int | None = None
    address: AddressSpec | None = None
    virtio: VirtioSpec = VirtioSpec()


class MemoryDeviceModel(enum.Enum):
    """Memory that is a device: it can be plugged, grown, or keep its content."""

    PC_DIMM = "pc-dimm"
    NVDIMM = "nvdimm"
    VIRTIO_MEM = "virtio-mem"
    VIRTIO_PMEM = "virtio-pmem"


@attrs.frozen(kw_only=True)
class MemoryDeviceSpec:
    """`[[vm.NAME.memory.device]]`.

    `requested`, `block_size` and `dynamic_memslots` are virtio-mem's, `label_size`, `uuid` and
    `unarmed` an nvdimm's.
    """

    model: MemoryDeviceModel = MemoryDeviceModel.PC_DIMM
    size: Size
    node: int | None = None
    slot: int | None = None
    base: int | None = None
    requested: Size | None = None
    block_size: Size | None = None
    dynamic_memslots: bool | None = None
    label_size: Size | None = None
    uuid: UUID | None = None
    unarmed: bool | None = None
    read_only: bool = False
    pmem: bool | None = None
    align: Size | None = None
    backend: MemoryBackendSpec = MemoryBackendSpec()
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class MemorySpec:
    """`[vm.NAME.memory]`, or `memory = SIZE` for short. `max` and `slots` are for plugging.

    `prealloc` is for all of it, whatever its backends.
    """

    size: Size = Size(512 << 20)
    max: Size | None = None
    slots: int | None = None
    locked: bool = False
    prealloc: bool = False
    backend: MemoryBackendSpec = MemoryBackendSpec()
    balloon: BalloonSpec = BalloonSpec()
    devices: tuple[MemoryDeviceSpec, ...] = attrs.field(default=(), metadata={"toml": "device"})


@attrs.frozen(kw_only=True)
class NumaSpec:
    """`[[vm.NAME.numa]]`: a NUMA cell of the guest.

    `distances` are to all cells in order, this one included (10). `initiator` is the cell whose
    vCPUs are nearest to its memory, for guests that have an HMAT (`features.hmat`).
    """

    cpus: CpuSet | None = None
    memory: Size | None = None
    distances: tuple[int, ...] = ()
    initiator: int | None = None
    backend: MemoryBackendSpec = MemoryBackendSpec()
