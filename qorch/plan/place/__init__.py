"""Where each device of a machine sits, and the controllers that takes; pure and stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from qorch.errors import Problem
from qorch.place import Place
from qorch.plan.controllers import ControllerPlan
from qorch.plan.place.controllers import Controllers
from qorch.plan.place.pci import PciMap, seat_all
from qorch.plan.place.seat import Bus, Home, Seat, Slot
from qorch.plan.place.units import UnitMap
from qorch.spec import ControllerSpec, MachineFamily

__all__ = ["Bus", "Home", "Placement", "Seat", "Slot", "place_devices"]

_NUMBERED = (
    *(Bus.SCSI, Bus.SATA, Bus.IDE, Bus.FLOPPY, Bus.VIRTIO_SERIAL),
    *(Bus.CCID, Bus.USB),  # card readers are on USB, so that its turn is last
)


@attrs.frozen
class Placement:
    """The controllers of a machine in the order QEMU needs, and the place of each device by id.

    `unseen` says what no guest finds where it is.
    """

    controllers: tuple[ControllerPlan, ...]
    places: Mapping[str, Place]
    unseen: tuple[str, ...] = ()

    def get(self, id_: str) -> Place:
        """A device's place; an empty one where it has none."""
        return self.places.get(id_, Place())


def place_devices(
    path: str,
    family: MachineFamily,
    specs: Sequence[ControllerSpec],
    seats: Sequence[Seat],
    kept: Mapping[str, Place],
    problems: list[Problem],
) -> Placement:
    """Give every device a place, and make the controllers it takes.

    The same devices always get the same places. An address that is given wins; a device that had a
    place (`kept`) has it still, if it is free.
    """
    controllers = Controllers.from_specs(path, family, specs, problems)
    units = UnitMap(problems)
    _seat_units(controllers, units, seats, kept)
    pci = PciMap.from_family(family, problems)
    if family is MachineFamily.MICROVM:
        _refuse_pci([*controllers.seats(Bus.PCI), *seats], problems)
    else:
        _seat_pci(controllers, pci, seats, kept)
    places = {**units.places, **dict(pci.places())}
    for seat in seats:
        if seat.bus is Bus.PCI and seat.address and seat.address.acpi_index is not None:
            place = places.get(seat.id, Place())
            places[seat.id] = attrs.evolve(place, acpi_index=seat.address.acpi_index)
    ports = () if family is MachineFamily.MICROVM else tuple(pci.port_places())
    return Placement(controllers.finish(places, ports), places, tuple(pci.find_unseen()))


def _seat_units(
    controllers: Controllers, units: UnitMap, seats: Sequence[Seat], kept: Mapping[str, Place]
) -> None:
    units.buses += [*controllers.board_buses(), *controllers.buses()]
    for kind in _NUMBERED:
        wanting = [*controllers.seats(kind), *(seat for seat in seats if seat.bus is kind)]
        anywhere = [seat for seat in wanting if not (seat.address and seat.address.bus)]
        if anywhere and not units.of(kind):
            units.buses += controllers.imply(kind)
        for hub in filter(controllers.is_hub, wanting):
            if units.claim(hub) or units.seat(hub, kept.get(hub.id)):
                units.buses += controllers.hub_bus(hub, units.places)
        rest = [seat for seat in wanting if not controllers.is_hub(seat) and not units.claim(seat)]
        _seat_rest(controllers, units, kind, rest, kept)


def _seat_rest(
    controllers: Controllers,
    units: UnitMap,
    kind: Bus,
    seats: Sequence[Seat],
    kept: Mapping[str, Place],
) -> None:
    while kind is Bus.USB and len(seats) > units.count_free(kind) > 0:
        hub = controllers.imply_hub()
        units.seat(hub, kept.get(hub.id))
        units.buses += controllers.hub_bus(hub, units.places)
    for seat in sorted(seats, key=lambda seat: seat.id not in kept):
        if units.seat(seat, kept.get(seat.id)):
            continue
        units.buses += controllers.imply(kind)
        if not units.seat(seat, None):
            units.problems.append(controllers.refuse(seat))


def _seat_pci(
    controllers: Controllers, pci: PciMap, seats: Sequence[Seat], kept: Mapping[str, Place]
) -> None:
    for bus in controllers.pci_buses():
        pci.buses[bus.name] = bus
    wanting = [*controllers.seats(Bus.PCI), *(seat for seat in seats if seat.bus is Bus.PCI)]
    for bridge in seat_all(pci, wanting, kept, controllers.make_bridge):
        controllers.keep_bridge(bridge)
    if pci.express:
        pci.add_spare_ports()
    pci.refuse_single()


def _refuse_pci(seats: Sequence[Seat], problems: list[Problem]) -> None:
    problems += [
        Problem(seat.path, "a microvm has no PCI bus", 'use machine = "q35"')
        for seat in seats
        if seat.bus is Bus.PCI and not seat.virtio
    ]
