"""Random numbers, balloon, watchdogs, panics, vsock, IOMMU, crypto, shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.argv.chardev import make_chardev
from qorch.argv.transport import find_transport
from qorch.handles import Handles
from qorch.plan import IommuPlan, MachinePlan, RngPlan, ShmemPlan
from qorch.spec import IommuModel, PanicModel, RngBackend, WatchdogAction, WatchdogModel
from qorch.switch import Switch
from qorch.switch.base import Global, WatchdogAct
from qorch.switch.device import VirtioCommon
from qorch.switch.object import (
    Object,
    ObjectCryptodev,
    ObjectMemoryFile,
    ObjectRngEgd,
    ObjectRngRandom,
)
from qorch.switch.service import (
    DeviceErst,
    DeviceIommu,
    DeviceIvshmemDoorbell,
    DeviceIvshmemPlain,
    DevicePanic,
    DeviceVhostVsock,
    DeviceVirtioBalloon,
    DeviceVirtioCrypto,
    DeviceVirtioRng,
    DeviceWatchdog,
)

_SHMEM_SIZE = 4 << 20  # bytes, where the file does not say


def make_services(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """All of them, each with its back end before it."""
    for rng in plan.rngs:
        yield from _rng(plan, rng, handles)
    yield from _balloon(plan)
    yield from _watchdogs(plan)
    for panic in plan.panics:
        port = panic.spec.address.iobase if panic.spec.address else None
        isa = panic.spec.model is PanicModel.ISA
        yield DevicePanic(
            model=panic.spec.model.value,
            id=panic.id,
            place=panic.place,
            ioport=port if isa else None,
        )
    yield from _vsock(plan, handles)
    yield from _cryptos(plan)
    if plan.pstore is not None:
        spec, id_ = plan.pstore.spec, plan.pstore.id
        yield ObjectMemoryFile(id=id_, mem_path=spec.path, size=int(spec.size))
        yield DeviceErst(id=f"{id_}-dev", place=plan.pstore.place, memdev=id_)
    for shmem in plan.shmems:
        yield from _shmem(shmem, handles)


def _rng(plan: MachinePlan, rng: RngPlan, handles: Handles) -> Iterator[Switch]:
    spec, transport = rng.spec, find_transport(plan)
    match spec.backend:
        case RngBackend.RANDOM:
            yield ObjectRngRandom(id=rng.id, filename=spec.source)
        case RngBackend.EGD if spec.egd is not None:
            yield from make_chardev(f"{rng.id}-egd", spec.egd, handles)
            yield ObjectRngEgd(id=rng.id, chardev=f"{rng.id}-egd")
        case _:
            yield Object(id=rng.id, qom_type="rng-builtin")
    yield DeviceVirtioRng(
        transport=transport,
        id=f"{rng.id}-dev",
        place=rng.place,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
        rng=rng.id,
        max_bytes=spec.max_bytes,
        period=None if spec.period is None else round(spec.period * 1000),
    )


def _balloon(plan: MachinePlan) -> Iterator[Switch]:
    if plan.balloon is None:
        return
    spec, transport = plan.balloon.spec, find_transport(plan)
    yield DeviceVirtioBalloon(
        transport=transport,
        id=plan.balloon.id,
        place=plan.balloon.place,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
        free_page_reporting=spec.free_page_reporting,
        deflate_on_oom=spec.deflate_on_oom,
    )


def _watchdogs(plan: MachinePlan) -> Iterator[Switch]:
    """ICH9 has one that only has to be allowed to reset the machine."""
    for watchdog in plan.watchdogs:
        if watchdog.spec.model is WatchdogModel.ITCO:
            yield Global(name="ICH9-LPC.noreboot", value=False)
        else:
            model = watchdog.spec.model.value
            yield DeviceWatchdog(model=model, id=watchdog.id, place=watchdog.place)
    if plan.watchdogs and plan.watchdogs[0].spec.action is not WatchdogAction.RESET:
        yield WatchdogAct(action=plan.watchdogs[0].spec.action.value)


def _vsock(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    if plan.vsock is None:
        return
    transport = find_transport(plan)
    yield DeviceVhostVsock(
        transport=transport,
        id=plan.vsock.id,
        place=plan.vsock.place,
        virtio=VirtioCommon.from_spec(plan.vsock.spec.virtio, transport),
        guest_cid=plan.vsock.cid,
        vhostfd=str(handles[plan.vsock.id]),
    )


def make_iommu(iommu: IommuPlan) -> Iterator[Switch]:
    """The IOMMU: it must be there before the devices that it translates for."""
    spec = iommu.spec
    model = spec.model.value + ("-pci" if spec.model is IommuModel.VIRTIO else "")
    yield DeviceIommu(
        model=model,
        id=iommu.id,
        place=iommu.place,
        intremap=_on_off(spec.intremap),
        caching_mode=spec.caching_mode,
        eim=_on_off(spec.eim),
        device_iotlb=spec.device_iotlb,
        aw_bits=spec.aw_bits,
        xtsup=spec.xtsup,
        pt=spec.passthrough,
        dma_translation=spec.dma_translation,
    )


def _on_off(value: bool | None) -> str | None:
    return None if value is None else "on" if value else "off"


def _cryptos(plan: MachinePlan) -> Iterator[Switch]:
    transport = find_transport(plan)
    for crypto in plan.cryptos:
        backend = f"cryptodev-backend-{crypto.spec.backend}"
        yield ObjectCryptodev(id=crypto.id, qom_type=backend, queues=crypto.spec.queues)
        yield DeviceVirtioCrypto(
            transport=transport,
            id=f"{crypto.id}-dev",
            place=crypto.place,
            virtio=VirtioCommon.from_spec(crypto.spec.virtio, transport),
            cryptodev=crypto.id,
        )


def _shmem(shmem: ShmemPlan, handles: Handles) -> Iterator[Switch]:
    spec = shmem.spec
    master = _on_off(spec.master)
    if spec.server is None:
        path = Path("/dev/shm") / spec.name  # noqa: S108  where POSIX shared memory is on Linux
        size = int(spec.size or _SHMEM_SIZE)
        yield ObjectMemoryFile(id=shmem.id, mem_path=path, size=size)
        yield DeviceIvshmemPlain(
            id=f"{shmem.id}-dev", place=shmem.place, memdev=shmem.id, master=master
        )
    else:
        yield from make_chardev(shmem.id, spec.server, handles)
        yield DeviceIvshmemDoorbell(
            id=f"{shmem.id}-dev",
            place=shmem.place,
            chardev=shmem.id,
            vectors=spec.vectors,
            ioeventfd=spec.ioeventfd,
            master=master,
        )
