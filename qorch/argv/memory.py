"""Memory, NUMA cells, and memory that is a device."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.transport import find_transport
from qorch.plan import MachinePlan
from qorch.plan.memory import MemoryDevicePlan, RamPlan
from qorch.spec import MemoryBackendSpec, MemoryBackendType, MemoryDeviceModel, MemoryDeviceSpec
from qorch.switch import Switch
from qorch.switch.base import Flag
from qorch.switch.memory import (
    DeviceDimm,
    DeviceVirtioMem,
    DeviceVirtioPmem,
    Memory,
    NumaDist,
    NumaNode,
    ObjectMemoryBackend,
)


def name_whole_memory(plan: MachinePlan) -> str | None:
    """What `-machine` says the memory is, unless it is QEMU's own or cells have it."""
    return plan.memory.ram.id if plan.memory.ram else None


def make_memory(plan: MachinePlan) -> Iterator[Switch]:
    """How much there is, of what, and where."""
    memory = plan.memory
    yield Memory(size=memory.size, slots=memory.slots, maxmem=memory.max)
    if memory.spec.prealloc:
        yield Flag(name="mem-prealloc")
    if memory.ram is not None:
        yield make_backend(memory.ram)
    for node, cell in enumerate(memory.cells):
        if cell.ram is not None:
            yield make_backend(cell.ram)
        yield NumaNode(
            nodeid=node,
            cpus=tuple(str(cell.cpus).split(",")) if cell.cpus else (),
            initiator=cell.initiator,
            memdev=cell.ram.id if cell.ram else None,
        )
    for node, cell in enumerate(memory.cells):
        for other, distance in enumerate(cell.distances):
            yield NumaDist(src=node, dst=other, val=distance)


def make_backend(ram: RamPlan, device: MemoryDeviceSpec | None = None) -> ObjectMemoryBackend:
    """A piece of memory, as `-object` and `object-add` take it.

    What virtio-mem is made of is only allocated as far as it is plugged, by the device.
    """
    backend: MemoryBackendSpec = ram.backend
    kind = backend.type or MemoryBackendType.RAM
    huge = backend.hugepages and kind is MemoryBackendType.MEMFD
    grows = device is not None and device.model is MemoryDeviceModel.VIRTIO_MEM
    return ObjectMemoryBackend(
        qom_type=f"memory-backend-{kind.value}",
        id=ram.id,
        size=ram.size,
        mem_path=backend.path,
        hugetlb=huge or None,
        hugetlbsize=backend.page_size if huge else None,
        share=backend.shared,
        readonly=(device.read_only or None) if device else None,
        pmem=device.pmem if device else None,
        align=device.align if device else None,
        reserve=False if grows else None,
        prealloc=None if grows else backend.prealloc,
        prealloc_threads=backend.prealloc_threads,
        merge=backend.merge,
        dump=backend.dump,
        discard_data=backend.discard,
        host_nodes=tuple(sorted(backend.host_nodes)) if backend.host_nodes else None,
        policy=backend.policy,
    )


def _is_unarmed(spec: MemoryDeviceSpec) -> bool | None:
    """The guest must know of an nvdimm that it cannot write to (hw/mem/nvdimm.c)."""
    locked = spec.read_only and spec.model is MemoryDeviceModel.NVDIMM
    return spec.unarmed if spec.unarmed is not None else locked or None


def make_memory_device(plan: MachinePlan, device: MemoryDevicePlan) -> Iterator[Switch]:
    """A DIMM, or memory on PCI, and what it is made of."""
    spec = device.spec
    yield make_backend(device.ram, spec)
    id_, memdev = f"{device.id}-dev", device.ram.id
    match spec.model:
        case MemoryDeviceModel.PC_DIMM | MemoryDeviceModel.NVDIMM:
            yield DeviceDimm(
                model=spec.model.value,
                id=id_,
                memdev=memdev,
                node=spec.node,
                slot=spec.slot,
                addr=spec.base,
                label_size=spec.label_size,
                uuid=spec.uuid,
                unarmed=_is_unarmed(spec),
            )
        case MemoryDeviceModel.VIRTIO_MEM:
            yield DeviceVirtioMem(
                transport=find_transport(plan),
                id=id_,
                memdev=memdev,
                node=spec.node,
                memaddr=spec.base,
                requested_size=spec.requested,
                block_size=spec.block_size,
                prealloc=device.ram.backend.prealloc,
                dynamic_memslots=spec.dynamic_memslots,
                place=device.place,
            )
        case MemoryDeviceModel.VIRTIO_PMEM:
            yield DeviceVirtioPmem(
                transport=find_transport(plan),
                id=id_,
                memdev=memdev,
                memaddr=spec.base,
                place=device.place,
            )
