"""Memory: of which pieces it is made, and how each is had of the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.place import Place
from qorch.plan.place import Placement
from qorch.spec import (
    MachineFamily,
    MachineSpec,
    MemoryBackendSpec,
    MemoryBackendType,
    MemoryDeviceModel,
    MemoryDeviceSpec,
    MemorySpec,
    NumaPolicy,
    ShareType,
)
from qorch.units import CpuSet, Name, Size

_PLAIN = MemoryBackendSpec(type=MemoryBackendType.RAM)
_DIMMS = (MemoryDeviceModel.PC_DIMM, MemoryDeviceModel.NVDIMM)


@attrs.frozen(kw_only=True)
class RamPlan:
    """A piece of memory: its size, and how it is had of the host, with nothing left open."""

    id: str
    size: Size
    backend: MemoryBackendSpec


@attrs.frozen(kw_only=True)
class CellPlan:
    """A NUMA cell of the guest: its vCPUs, its memory, its distances to all cells."""

    cpus: CpuSet | None = None
    ram: RamPlan | None = None
    distances: tuple[int, ...] = ()
    initiator: int | None = None


@attrs.frozen(kw_only=True)
class MemoryDevicePlan:
    """Memory that is a device."""

    id: str
    spec: MemoryDeviceSpec
    ram: RamPlan
    place: Place = Place()


@attrs.frozen(kw_only=True)
class MemoryPlan:
    """The memory of a machine; without `ram` or cells it is QEMU's plain kind."""

    spec: MemorySpec
    max: Size | None = None
    slots: int | None = None
    ram: RamPlan | None = None
    cells: tuple[CellPlan, ...] = ()
    devices: tuple[MemoryDevicePlan, ...] = ()

    @property
    def size(self) -> Size:
        """What the guest starts with, without devices."""
        return self.spec.size

    @property
    def pieces(self) -> tuple[RamPlan, ...]:
        """All pieces that are asked of the host in a way of their own."""
        cells = [cell.ram for cell in self.cells if cell.ram]
        return (*([self.ram] if self.ram else []), *cells, *(item.ram for item in self.devices))


def plan_memory(
    name: Name, spec: MachineSpec, facts: Facts, placement: Placement, problems: list[Problem]
) -> MemoryPlan:
    """The memory of one machine; huge pages that the host lacks are added to `problems`."""
    memory = spec.memory
    maker = _Maker(directory=facts.state.machine_data(name), shared=_must_be_shared(spec))
    cells = tuple(_cells(spec, maker))
    ram = None
    if not cells:
        microvm = spec.machine.family is MachineFamily.MICROVM
        id_ = "microvm.ram" if microvm else "pc.ram"  # QEMU's own: RAM blocks are known by it
        whole = maker.make(id_, memory.size, memory.backend)
        ram = whole if whole.backend != _PLAIN else None
    devices = tuple(
        MemoryDevicePlan(
            id=f"memory{index}",
            spec=device,
            ram=maker.make(f"memory{index}", device.size, device.backend, device),
            place=placement.get(f"memory{index}"),
        )
        for index, device in enumerate(memory.devices)
    )
    dimms = sum(device.model in _DIMMS for device in memory.devices)
    extra = sum(device.size for device in memory.devices)
    plan = MemoryPlan(
        spec=memory,
        max=memory.max or (Size(memory.size + extra) if devices else None),
        slots=memory.slots or (dimms or None),
        ram=ram,
        cells=cells,
        devices=devices,
    )
    problems += _find_missing_pages(name, plan, facts)
    return plan


def _must_be_shared(spec: MachineSpec) -> bool:
    """Whether another process reads and writes the guest's memory."""
    shares = any(share.type is ShareType.VIRTIOFS for share in spec.shares)
    return shares or any(spec.vhost_users())


def _cells(spec: MachineSpec, maker: _Maker) -> Iterator[CellPlan]:
    for index, cell in enumerate(spec.numa):
        backend = spec.memory.backend if cell.backend == MemoryBackendSpec() else cell.backend
        ram = maker.make(f"ram-node{index}", cell.memory, backend) if cell.memory else None
        yield CellPlan(cpus=cell.cpus, ram=ram, distances=cell.distances, initiator=cell.initiator)


@attrs.frozen(kw_only=True)
class _Maker:
    """What all pieces of a machine's memory have in common."""

    directory: Path
    shared: bool

    def make(
        self,
        id_: str,
        size: Size,
        backend: MemoryBackendSpec,
        device: MemoryDeviceSpec | None = None,
    ) -> RamPlan:
        """A piece, with everything decided that its backend leaves open."""
        shared = backend.shared
        if shared is None and self.shared:
            shared = True
        kind = backend.type or _choose_type(backend, device, shared=bool(shared))
        return RamPlan(
            id=id_,
            size=size,
            backend=attrs.evolve(
                backend,
                type=kind,
                path=backend.path or (self.directory if kind is MemoryBackendType.FILE else None),
                shared=shared,
                prealloc=True
                if backend.hugepages and backend.prealloc is None
                else backend.prealloc,
                policy=backend.policy or (NumaPolicy.BIND if backend.host_nodes else None),
            ),
        )


def _choose_type(
    backend: MemoryBackendSpec, device: MemoryDeviceSpec | None, *, shared: bool
) -> MemoryBackendType:
    """A memfd can be shared and of huge pages without a mounted file system."""
    file = device is not None and (device.read_only or device.pmem or device.align)
    if backend.path is not None or file:
        return MemoryBackendType.FILE
    return MemoryBackendType.MEMFD if backend.hugepages or shared else MemoryBackendType.RAM


def _find_missing_pages(name: Name, plan: MemoryPlan, facts: Facts) -> Iterator[Problem]:
    """Huge pages; those that are in use may be this very machine's."""
    wanted: dict[int, int] = {}
    for piece in plan.pieces:
        if piece.backend.hugepages:
            size = int(piece.backend.page_size or facts.hugepages.default)
            wanted[size] = wanted.get(size, 0) + -(-piece.size // size)
    path = f"vm.{name}.memory.backend.hugepages"
    for size, count in wanted.items():
        known = Size(size)
        if size not in facts.hugepages.pages:
            have = ", ".join(str(Size(have)) for have in sorted(facts.hugepages.pages)) or "none"
            message = f"this host has no huge pages of {known}"
            yield Problem(path, message, f"it has: {have}", on_host=True)
            continue
        pages = facts.hugepages.pages[size]
        if count > pages.total:
            yield Problem(
                path,
                f"needs {count} huge pages of {known}; the host has {pages.total},"
                f" {pages.free} of them free",
                f"sysctl vm.nr_hugepages={count}"
                if size == facts.hugepages.default
                else f"/sys/kernel/mm/hugepages/hugepages-{size >> 10}kB/nr_hugepages",
                on_host=True,
            )
