"""`<memory>`, `<memoryBacking>`, `<numatune>`, `<cpu><numa>` and memory devices."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from qorch.errors import InputError, Problem
from qorch.importxml.address import Buses, address_of
from qorch.importxml.hmat import find_initiator
from qorch.importxml.node import Node
from qorch.importxml.values import (
    choose,
    cpus_of,
    path_of,
    round_up,
    size_at,
    size_of,
    uuid_of,
    virtio_of,
)
from qorch.spec import (
    BalloonSpec,
    MemoryBackendSpec,
    MemoryBackendType,
    MemoryDeviceModel,
    MemoryDeviceSpec,
    MemorySpec,
    NumaPolicy,
    NumaSpec,
)
from qorch.units import CpuSet, Size

_POLICIES = {
    "strict": NumaPolicy.BIND,
    "preferred": NumaPolicy.PREFERRED,
    "interleave": NumaPolicy.INTERLEAVE,
}
_MANY = 4096  # vCPUs
_SMALL_PAGE = 4 << 10
_HUGE_PAGE = Size(2 << 20)  # the default on x86
_SHARED = {"shared": True, "private": False}
_MODELS = {
    "dimm": MemoryDeviceModel.PC_DIMM,
    "nvdimm": MemoryDeviceModel.NVDIMM,
    "virtio-mem": MemoryDeviceModel.VIRTIO_MEM,
    "virtio-pmem": MemoryDeviceModel.VIRTIO_PMEM,
}


def read_memory(domain: Node, buses: Buses) -> MemorySpec:
    """How much memory, of what, and the devices that add to it."""
    devices = tuple(
        device
        for node in domain.find("devices").all("memory")
        if (device := _device(node, domain, buses))
    )
    most = domain.find("maxMemory")
    cells = [_cell_size(cell) for cell in domain.find("cpu", "numa").all("cell")]
    size = size_of(most)
    _current(domain)
    return MemorySpec(
        size=Size(sum(cells)) or _base(domain),
        prealloc=_is_plain(domain, buses)
        and domain.find("memoryBacking", "allocation").get("mode") == "immediate",
        max=round_up(size) if size else None,
        slots=most.number("slots"),
        locked=bool(domain.find("memoryBacking", "locked")),
        backend=MemoryBackendSpec() if cells or most else _backend(domain, None),
        balloon=_balloon(domain.find("devices"), buses),
        devices=devices,
    )


def _is_plain(domain: Node, buses: Buses) -> bool:
    """Whether cells are had as QEMU has them: libvirt needs no back ends for that before 5.1.

    They are then allocated, or not, together.
    """
    version = re.fullmatch(r"pc-(?:i440fx|q35)-(\d+)\.(\d+)", buses.machine)
    old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    cells = domain.find("cpu", "numa").all("cell")
    backing = domain.find("memoryBacking")
    asked = (
        *(backing.find(tag) for tag in ("hugepages", "access", "source")),
        *(domain.find("numatune", tag) for tag in ("memnode", "memory")),
    )
    return old and bool(cells) and not any(asked) and not any(c.get("memAccess") for c in cells)


def _current(domain: Node) -> None:
    current, total = domain.find("currentMemory"), size_of(domain.find("memory"))
    size = size_of(current)
    if size and total and size < total:
        current.note(f"the guest starts with all its memory, not ballooned to {round_up(size)}")


def _cell_size(cell: Node) -> Size:
    return round_up(size_at(cell, "memory") or Size(0))


def read_numa(domain: Node, buses: Buses) -> tuple[NumaSpec, ...]:
    """The guest's NUMA cells, in the order of their numbers."""
    numa = domain.find("cpu", "numa")
    cells = _numbered(numa.all("cell"))
    if not cells and domain.find("maxMemory"):
        return _only_cell(domain)
    plain = _is_plain(domain, buses)
    told, vcpus = _distances(cells), _vcpus_of(domain, cells)
    return tuple(
        NumaSpec(
            cpus=vcpus[number],
            memory=_cell_size(cell),
            distances=tuple(told.get((number, other), 20) for other in cells) if told else (),
            initiator=find_initiator(domain, number, has_cpus=bool(vcpus[number])),
            backend=MemoryBackendSpec() if plain else _backend(domain, number, cell),
        )
        for number, cell in cells.items()
    )


def _vcpus_of(domain: Node, cells: dict[int, Node]) -> dict[int, CpuSet | None]:
    """The vCPUs of each cell; those that none has are the first one's, as libvirt has it."""
    found = {number: cpus_of(cell, cell.get("cpus")) for number, cell in cells.items()}
    count = domain.find("vcpu").text_number() or 1
    taken = {cpu for cpus in found.values() for cpu in cpus or ()}
    rest = set(range(min(count, _MANY))) - taken
    if found and rest:
        first = next(iter(found))
        found[first] = CpuSet({*(found[first] or ()), *rest})
    return found


def _only_cell(domain: Node) -> tuple[NumaSpec, ...]:
    """The cell that libvirt adds where memory can be plugged."""
    count = domain.find("vcpu").text_number() or 1
    cpus = cpus_of(domain, f"0-{count - 1}") if 0 < count <= _MANY else None
    return (NumaSpec(cpus=cpus, memory=_base(domain), backend=_backend(domain, 0)),)


def _base(domain: Node) -> Size:
    """What a machine without cells has before anything is plugged."""
    total = size_of(domain.find("memory")) or Size(0)
    targets = (node.find("target") for node in domain.find("devices").all("memory"))
    plugged = sum(round_up(size_of(target.find("size")) or Size(0)) for target in targets)
    size = round_up(Size(max(total - plugged, 0)))
    if not size:
        said = domain.text_of("memory") or "nothing"
        message = f"{said} leaves no memory for the machine itself"
        raise InputError.from_problems([Problem("memory", message)])
    return size


def _numbered(cells: list[Node]) -> dict[int, Node]:
    """Cells by their numbers; those without one take their places."""
    found = {}
    for place, cell in enumerate(cells):
        number = cell.number("id")
        found[place if number is None else number] = cell
    return dict(sorted(found.items()))


def _distances(cells: dict[int, Node]) -> dict[tuple[int, int], int]:
    """Distances between cells, none if nothing is said; those of one way are those of the other."""
    found = {}
    for number, cell in cells.items():
        for sibling in cell.find("distances").all("sibling"):
            other, value = sibling.number("id"), sibling.number("value")
            if other is not None and value is not None:
                found[number, other] = value
    if not found:
        return {}
    back = {(there, here): value for (here, there), value in found.items()}
    return {**back, **found, **{(number, number): 10 for number in cells}}


def _backend(domain: Node, number: int | None, cell: Node | None = None) -> MemoryBackendSpec:
    """What memory is had of: the whole guest's settings, and one cell's own before them."""
    backing = domain.find("memoryBacking")
    source, allocation = backing.find("source"), backing.find("allocation")
    shared = choose(backing, backing.find("access").get("mode"), _SHARED, "access mode")
    discard = True if backing.find("discard") else None
    if cell is not None:
        own = choose(cell, cell.get("memAccess"), _SHARED, "access mode")
        shared = shared if own is None else own
        discard = discard if (said := cell.on("discard")) is None else said or None
    kind = {"memfd": MemoryBackendType.MEMFD, "file": MemoryBackendType.FILE}.get(
        source.word("type"), MemoryBackendType.FILE if shared is not None else None
    )
    spec = MemoryBackendSpec(
        type=kind,
        shared=shared,
        prealloc=True if allocation.get("mode") == "immediate" else None,
        prealloc_threads=allocation.number("threads"),
        discard=discard,
    )
    spec = _on_nodes(_pages(spec, backing, number), domain, number)
    return spec if spec.type is MemoryBackendType.FILE else attrs.evolve(spec, discard=None)


def _pages(spec: MemoryBackendSpec, backing: Node, number: int | None) -> MemoryBackendSpec:
    """Huge pages, all or those of one cell: libvirt always allocates these at once, in files."""
    huge = backing.find("hugepages")
    if not huge:
        return spec
    size: Size | None = None
    for page in huge.all("page"):
        nodes = cpus_of(page, page.get("nodeset"))
        if (nodes is None and size is None) or (nodes is not None and (number or 0) in nodes):
            size = size_at(page, "size")
    if size == _SMALL_PAGE or (huge.nodes and size is None):
        return spec
    return _make_huge(attrs.evolve(spec, prealloc=True), size or _HUGE_PAGE)


def _make_huge(spec: MemoryBackendSpec, size: Size) -> MemoryBackendSpec:
    """Huge pages of a size: in files, where they are mounted by custom, or a memfd."""
    kind = spec.type or MemoryBackendType.FILE
    mount = "/dev/hugepages" if size == _HUGE_PAGE else f"/dev/hugepages{_short(size)}"
    path = Path(mount) if kind is MemoryBackendType.FILE else None
    return attrs.evolve(spec, type=kind, hugepages=True, page_size=size, path=spec.path or path)


def _short(size: Size) -> str:
    """A size as such mounts are called: `1G`."""
    return str(size).removesuffix("iB")


def _on_nodes(spec: MemoryBackendSpec, domain: Node, number: int | None) -> MemoryBackendSpec:
    """On which of the host's nodes, and how strictly."""
    tune = domain.find("numatune")
    chosen = tune.find("memory")
    for node in tune.all("memnode"):
        if node.number("cellid") == number and number is not None:
            chosen = node
    if chosen.get("placement") == "auto":
        chosen.note("qorch does not choose NUMA nodes by load", "@placement")
    nodes = cpus_of(chosen, chosen.get("nodeset"))
    mode = chosen.get("mode") or "strict"
    if nodes is None or mode not in _POLICIES:
        if chosen and mode == "restrictive":
            chosen.note("memory is bound by cgroups only, which qorch does not do", "@mode")
        return spec
    return attrs.evolve(spec, host_nodes=nodes, policy=_POLICIES[mode])


def _balloon(devices: Node, buses: Buses) -> BalloonSpec:
    node = devices.find("memballoon")
    model = node.get("model") or "virtio"
    if model == "none":
        node.skip()
        return BalloonSpec(enabled=False)
    return BalloonSpec(
        free_page_reporting=node.on("freePageReporting"),
        deflate_on_oom=node.on("autodeflate"),
        stats_interval=node.find("stats").number("period"),
        address=address_of(node, buses),
        virtio=virtio_of(node, node.find("driver"), model),
    )


def _device(node: Node, domain: Node, buses: Buses) -> MemoryDeviceSpec | None:
    kind = node.word("model")
    if kind not in _MODELS:
        node.leave(f"memory devices of model {kind!r} have no counterpart")
        return None
    target, source = node.find("target"), node.find("source")
    size = size_of(target.find("size"))
    if size is None:
        node.leave("has no size")
        return None
    address = node.find("address")
    model = _MODELS[kind]
    number = target.text_of("node")
    where = int(number) if number and number.isdigit() else None
    dimm = address.get("type") == "dimm"
    return MemoryDeviceSpec(
        model=model,
        size=round_up(size),
        node=where,
        slot=address.number("slot") if dimm else None,
        base=address.number("base") if dimm else target.find("address").number("base"),
        requested=size_of(target.find("requested")),
        block_size=size_of(target.find("block")),
        label_size=size_of(target.find("label", "size")),
        uuid=uuid_of(node, node.text_of("uuid")),
        unarmed=True if target.find("readonly") else None,
        dynamic_memslots=target.on("dynamicMemslots"),
        pmem=True if source.find("pmem") else None,
        align=size_of(source.find("alignsize")),
        backend=_device_backend(node, domain, where),
        address=None if dimm else address_of(node, buses),
    )


def _device_backend(node: Node, domain: Node, where: int | None) -> MemoryBackendSpec:
    source = node.find("source")
    path = path_of(source.text_of("path"))
    spec = _backend(domain, where)
    own = choose(node, node.get("access"), _SHARED, "access")
    if path is not None:
        spec = _in_file(spec, path, domain)
    elif own is not None and spec.type is not MemoryBackendType.MEMFD:
        spec = attrs.evolve(spec, type=MemoryBackendType.FILE)
    if node.get("model") == "nvdimm" and not source.find("pmem"):
        spec = attrs.evolve(spec, prealloc=True)
    page, nodes = size_of(source.find("pagesize")), cpus_of(source, source.text_of("nodemask"))
    if page is not None and page > _SMALL_PAGE:
        spec = _make_huge(spec, page)
    if nodes is not None:
        policy = spec.policy or NumaPolicy.BIND
        spec = attrs.evolve(spec, host_nodes=nodes, policy=policy)
    discard = True if node.on("discard") else spec.discard
    discard = discard if spec.type is MemoryBackendType.FILE and path is None else None
    return attrs.evolve(spec, shared=spec.shared if own is None else own, discard=discard)


def _in_file(spec: MemoryBackendSpec, path: Path, domain: Node) -> MemoryBackendSpec:
    """Memory that keeps its content: huge pages are not asked for, nor what comes with them."""
    wanted = domain.find("memoryBacking", "allocation").get("mode") == "immediate"
    return attrs.evolve(
        spec,
        type=MemoryBackendType.FILE,
        path=path,
        hugepages=False,
        page_size=None,
        prealloc=wanted or None,
    )
