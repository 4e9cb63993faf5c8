"""What serves a guest: each device as it was asked for, and where it sits."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from qorch.place import Place
from qorch.plan.place import Placement
from qorch.spec import (
    BalloonSpec,
    CryptoSpec,
    IommuSpec,
    MachineSpec,
    PanicSpec,
    PstoreSpec,
    RngSpec,
    ShmemSpec,
    VsockSpec,
    WatchdogSpec,
)


@attrs.frozen(kw_only=True)
class RngPlan:
    """Random numbers; the back end has its id."""

    id: str
    spec: RngSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class BalloonPlan:
    """The balloon."""

    id: str
    spec: BalloonSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class WatchdogPlan:
    """A watchdog."""

    id: str
    spec: WatchdogSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class PanicPlan:
    """A device by which the guest tells that it has panicked."""

    id: str
    spec: PanicSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class VsockPlan:
    """Sockets between host and guest; without a CID one is taken at start."""

    id: str
    spec: VsockSpec
    cid: int
    place: Place = Place()


@attrs.frozen(kw_only=True)
class IommuPlan:
    """The IOMMU."""

    id: str
    spec: IommuSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class ShmemPlan:
    """Memory shared with other guests; its back end or chardev has its id."""

    id: str
    spec: ShmemSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class CryptoPlan:
    """A virtio-crypto device; its back end has its id."""

    id: str
    spec: CryptoSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class PstorePlan:
    """The store for a guest's last words; its back end has its id."""

    id: str
    spec: PstoreSpec
    place: Place = Place()


def plan_pstore(spec: MachineSpec, placement: Placement) -> PstorePlan | None:
    """The store for a guest's last words, if there shall be one."""
    if spec.pstore is None:
        return None
    return PstorePlan(id="pstore0", spec=spec.pstore, place=placement.get("pstore0"))


def plan_rngs(spec: MachineSpec, placement: Placement) -> Iterator[RngPlan]:
    """The sources of random numbers."""
    for index, rng in enumerate(spec.rngs):
        yield RngPlan(id=f"rng{index}", spec=rng, place=placement.get(f"rng{index}"))


def plan_balloon(spec: MachineSpec, placement: Placement) -> BalloonPlan | None:
    """The balloon, unless there shall be none."""
    balloon = spec.memory.balloon
    if not balloon.enabled:
        return None
    return BalloonPlan(id="balloon0", spec=balloon, place=placement.get("balloon0"))


def plan_watchdogs(spec: MachineSpec, placement: Placement) -> Iterator[WatchdogPlan]:
    """The watchdogs."""
    for index, watchdog in enumerate(spec.watchdogs):
        id_ = f"watchdog{index}"
        yield WatchdogPlan(id=id_, spec=watchdog, place=placement.get(id_))


def plan_panics(spec: MachineSpec, placement: Placement) -> Iterator[PanicPlan]:
    """The panic devices."""
    for index, panic in enumerate(spec.panics):
        yield PanicPlan(id=f"panic{index}", spec=panic, place=placement.get(f"panic{index}"))


def plan_iommu(spec: MachineSpec, placement: Placement) -> IommuPlan | None:
    """The IOMMU, if there shall be one."""
    if spec.iommu is None:
        return None
    return IommuPlan(id="iommu0", spec=spec.iommu, place=placement.get("iommu0"))


def plan_shmems(spec: MachineSpec, placement: Placement) -> Iterator[ShmemPlan]:
    """Shared memory."""
    for index, shmem in enumerate(spec.shmems):
        yield ShmemPlan(id=f"shmem{index}", spec=shmem, place=placement.get(f"shmem{index}"))


def plan_cryptos(spec: MachineSpec, placement: Placement) -> Iterator[CryptoPlan]:
    """The crypto devices."""
    for index, crypto in enumerate(spec.cryptos):
        yield CryptoPlan(id=f"crypto{index}", spec=crypto, place=placement.get(f"crypto{index}"))
