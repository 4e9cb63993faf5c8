"""Memory, NUMA cells and memory that is a device."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.errors import Problem
from qorch.spec import (
    MachineFamily,
    MachineSpec,
    MemoryBackendSpec,
    MemoryBackendType,
    MemoryDeviceModel,
    MemoryDeviceSpec,
    MemorySpec,
    ShareType,
)
from qorch.units import CpuSet, Size

_MIB = 1 << 20
_MEM_BLOCK = 2 << 20  # virtio-mem's, as large as a transparent huge page (hw/virtio/virtio-mem.c)
_NEAR, _FAR = 10, 254  # ACPI's SLIT; 255 is out of reach
_DIMMS = (MemoryDeviceModel.PC_DIMM, MemoryDeviceModel.NVDIMM)


def find_memory_problems(vm: MachineSpec) -> Iterator[Problem]:
    """What is wrong with a machine's memory; paths start below the machine."""
    memory = vm.memory
    if memory.size < _MIB or memory.size % _MIB:
        yield Problem(
            ".memory.size", f"{memory.size} is not a whole number of MiB", 'such as "512MiB"'
        )
    yield from _most(memory)
    yield from _backend(".memory.backend", memory.backend, memory.size)
    shared_by = _find_sharer(vm)
    if shared_by and memory.backend.shared is False:
        yield Problem(
            ".memory.backend.shared",
            f"{shared_by} needs shared memory",
            "leave it out: it is shared then",
        )
    interval = memory.balloon.stats_interval
    if interval is not None and interval < 0:
        hint = "seconds; leave it out, and it is asked when somebody wants to know"
        yield Problem(".memory.balloon.stats_interval", f"{interval} is less than 0", hint)
    for index, device in enumerate(memory.devices):
        path = f".memory.device[{index}]"
        yield from _backend(f"{path}.backend", device.backend, device.size)
        yield from _device(path, device, vm)
    yield from _cells(vm)


def _find_sharer(vm: MachineSpec) -> str | None:
    """What reads the guest's memory from another process."""
    if any(share.type is ShareType.VIRTIOFS for share in vm.shares):
        return "virtiofs"
    return "vhost-user" if any(vm.vhost_users()) else None


def _most(memory: MemorySpec) -> Iterator[Problem]:
    extra = sum(device.size for device in memory.devices)
    if memory.max is not None and memory.max < memory.size + extra:
        whole = f"{memory.size} and {Size(extra)} of devices" if extra else f"{memory.size}"
        yield Problem(
            ".memory.max", f"{memory.max} is less than {whole}", "max = … is all that there can be"
        )
    if memory.slots is not None:
        dimms = sum(device.model in _DIMMS for device in memory.devices)
        if not dimms <= memory.slots <= 256:
            hint = "QEMU has up to 256 slots"
            yield Problem(".memory.slots", f"{memory.slots} slots for {dimms} DIMMs", hint)
        elif memory.max is None and not memory.devices:
            yield Problem(".memory.slots", "are for plugging, up to max", "give max = …, too")


def _backend(path: str, backend: MemoryBackendSpec, size: Size) -> Iterator[Problem]:
    if backend.hugepages and backend.type is MemoryBackendType.RAM:
        yield Problem(f"{path}.hugepages", "plain RAM has no huge pages", 'type = "memfd"')
    if backend.page_size is not None and not backend.hugepages:
        yield Problem(f"{path}.page_size", "goes with hugepages", "hugepages = true")
    if backend.page_size is not None and (backend.page_size < 4096 or size < backend.page_size):
        hint = 'such as "2MiB", with at least one page of memory'
        yield Problem(f"{path}.page_size", f"{size} is less than one such page", hint)
    if backend.path is not None and backend.type not in (None, MemoryBackendType.FILE):
        yield Problem(f"{path}.path", "is for memory in a file", 'type = "file"')
    if backend.type is MemoryBackendType.FILE and backend.hugepages and backend.path is None:
        yield Problem(f"{path}.path", "is missing: where huge pages are mounted", 'or "memfd"')


def _device(path: str, device: MemoryDeviceSpec, vm: MachineSpec) -> Iterator[Problem]:
    virtio_mem = device.model is MemoryDeviceModel.VIRTIO_MEM
    nvdimm = device.model is MemoryDeviceModel.NVDIMM
    for key, has in (
        ("requested", virtio_mem),
        ("block_size", virtio_mem),
        ("dynamic_memslots", virtio_mem),
        ("unarmed", nvdimm),
        ("label_size", nvdimm),
        ("uuid", nvdimm),
        ("slot", device.model in _DIMMS),
    ):
        if getattr(device, key) is not None and not has:
            yield Problem(f"{path}.{key}", f"a {device.model.value} has none", "leave it out")
    block = device.block_size or _MEM_BLOCK
    if virtio_mem and device.size % block:
        hint = f"multiples of {Size(block)}, its block_size"
        yield Problem(f"{path}.size", f"{device.size} is no whole number of blocks", hint)
    if device.requested is not None and device.requested > device.size:
        yield Problem(
            f"{path}.requested",
            f"{device.requested} is more than {device.size}",
            "requested is how much of size it starts with",
        )
    if device.node is not None and not 0 <= device.node < len(vm.numa):
        yield Problem(
            f"{path}.node",
            f"there is no NUMA cell {device.node}",
            "[[numa]] makes one; they count from 0",
        )
    if vm.machine.family is MachineFamily.MICROVM:
        yield Problem(path, "a microvm has no slots for memory", 'machine = "q35"')


def _cells(vm: MachineSpec) -> Iterator[Problem]:
    if not vm.numa:
        return
    owner: dict[int, int] = {}
    total = vm.cpu.max or vm.cpu.count
    for index, cell in enumerate(vm.numa):
        path = f".numa[{index}]"
        cpus = cell.cpus or CpuSet()
        if above := CpuSet(cpu for cpu in cpus if cpu >= total):
            message = f"there is no vCPU {above}: the machine has {total}"
            yield Problem(f"{path}.cpus", message, "they count from 0")
        for cpu in sorted(cpus - above):
            if owner.setdefault(cpu, index) != index:
                yield Problem(
                    f"{path}.cpus",
                    f"vCPU {cpu} is in numa[{owner[cpu]}] already",
                    "name each vCPU in one cell",
                )
        backend = vm.memory.backend if cell.backend == MemoryBackendSpec() else cell.backend
        yield from _backend(f"{path}.backend", backend, cell.memory or Size(0))
        yield from _distances(path, index, cell.distances, len(vm.numa))
        if cell.initiator is not None and not 0 <= cell.initiator < len(vm.numa):
            yield Problem(
                f"{path}.initiator", f"there is no NUMA cell {cell.initiator}", "they count from 0"
            )
    if missing := CpuSet(range(total)) - owner.keys():
        yield Problem(
            ".numa", f"vCPUs {CpuSet(missing)} are in no cell", "name each vCPU in one cell's cpus"
        )
    memory = Size(sum(cell.memory or 0 for cell in vm.numa))
    if memory != vm.memory.size:
        hint = "give each cell its memory; their sum is memory.size"
        yield Problem(".numa", f"the cells have {memory}, the machine {vm.memory.size}", hint)


def _distances(path: str, own: int, distances: tuple[int, ...], cells: int) -> Iterator[Problem]:
    if not distances:
        return
    if len(distances) != cells:
        yield Problem(
            f"{path}.distances",
            f"are {len(distances)}, of {cells} cells",
            "one to each cell, this one (10) included",
        )
        return
    for other, distance in enumerate(distances):
        if other == own and distance != _NEAR:
            yield Problem(
                f"{path}.distances[{other}]", "a cell is 10 from itself", "write 10 there"
            )
        elif other != own and not _NEAR < distance <= _FAR:
            yield Problem(
                f"{path}.distances[{other}]", f"{distance} is not 11 to 254", "20 is usual"
            )
