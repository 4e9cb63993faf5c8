"""Buses whose places are numbered: SCSI, SATA, IDE, floppy, USB, virtio-serial, smartcards."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from qorch.errors import Problem
from qorch.place import Place
from qorch.plan.place.seat import Bus, Seat
from qorch.spec import AddressSpec

Unit = tuple[int, ...]

_BOARD = "ide"  # what QEMU calls the buses of the chipset's own IDE or AHCI controller
_MAX_LUN = 16383  # virtio-scsi's (SAM LUN format, flat space addressing)


@attrs.define
class UnitBus:
    """The units of one controller; `id` is empty for those that the board has."""

    id: str
    kind: Bus
    first: int
    last: int
    parent: str = ""
    taken: dict[Unit, str] = attrs.field(factory=dict)

    def find_unit(self, address: AddressSpec) -> Unit | None:
        """The unit that an address means; None if it means none in particular."""
        match self.kind:
            case Bus.SCSI:
                given = (address.channel, address.target, address.unit)
                if given == (None, None, None):
                    return None
                return (given[0] or 0, given[1] or 0, given[2] or 0)
            case Bus.IDE:
                if address.channel is None and address.unit is None:
                    return None
                return ((address.channel or 0) * 2 + (address.unit or 0),)
            case Bus.USB | Bus.VIRTIO_SERIAL:
                return None if address.port is None else _port(address.port)
            case _:
                return None if address.unit is None else (address.unit,)

    def has(self, unit: Unit) -> bool:
        """Whether there is such a unit here."""
        if self.kind is Bus.SCSI:
            return 0 <= unit[1] <= self.last and 0 <= unit[2] <= _MAX_LUN
        return len(unit) == 1 and self.first <= unit[0] <= self.last

    def units(self, rank: int = 0) -> Iterator[Unit]:
        """The units from `rank` on, in the order in which they are given out."""
        for number in range(max(self.first, rank), self.last + 1):
            yield (0, number, 0) if self.kind is Bus.SCSI else (number,)

    def place(self, unit: Unit) -> Place:
        """A unit as QEMU's devices name it."""
        place = Place(bus=f"{self.id}.0" if self.id else None)
        match self.kind:
            case Bus.SCSI:
                place = attrs.evolve(place, channel=unit[0], scsi_id=unit[1], lun=unit[2])
            case Bus.SATA:
                place = Place(bus=f"{self.id or _BOARD}.{unit[0]}")
            case Bus.IDE:
                place = Place(bus=f"{self.id or _BOARD}.{unit[0] // 2}", unit=unit[0] % 2)
            case Bus.FLOPPY:
                place = attrs.evolve(place, unit=unit[0])
            case Bus.VIRTIO_SERIAL:
                place = attrs.evolve(place, nr=unit[0])
            case Bus.USB:
                controller, _, hub = self.parent.partition("/")
                ports = [*filter(None, [hub]), *map(str, unit)]
                place = Place(bus=f"{controller or self.id}.0", port=".".join(ports))
        return place


def _port(text: str) -> Unit:
    return tuple(int(part) for part in re.findall(r"\d+", text))


@attrs.define
class UnitMap:
    """The numbered buses of a machine while their places are given out."""

    problems: list[Problem]
    buses: list[UnitBus] = attrs.field(factory=list)
    places: dict[str, Place] = attrs.field(factory=dict)

    def of(self, kind: Bus) -> list[UnitBus]:
        """The buses of one kind."""
        return [bus for bus in self.buses if bus.kind is kind]

    def claim(self, seat: Seat) -> bool:
        """Give a device the unit that it names; False if it names none."""
        address = seat.address
        if address is None:
            return False
        bus, unit = self._find(seat, address)
        if bus is None:
            return address.bus is not None
        unit = unit or bus.find_unit(address)
        if unit is not None:
            self._claim_unit(seat, bus, unit)
        elif address.bus is None:
            return False
        elif not self._seat_on(bus, seat):
            self._refuse(seat, f"{bus.id or 'the board'} is full")
        return True

    def _claim_unit(self, seat: Seat, bus: UnitBus, unit: Unit) -> None:
        bus, unit = self._find_hub(bus, unit) or (bus, unit)
        if not bus.has(unit):
            word = "port" if bus.kind in (Bus.USB, Bus.VIRTIO_SERIAL) else "unit"
            message = f"{bus.id or 'the board'} has no {word} {'.'.join(map(str, unit))}"
            self._refuse(seat, message, f"it has {bus.first} to {bus.last}")
        elif (owner := bus.taken.get(unit)) is not None:
            self._refuse(seat, f"its place belongs to {owner}", "give it another one")
        else:
            self._take(bus, unit, seat)

    def _find(self, seat: Seat, address: AddressSpec) -> tuple[UnitBus | None, Unit | None]:
        """The bus that an address names, by the controller's id or QEMU's name for the bus."""
        buses = self.of(seat.bus)
        if address.bus is None:
            return (buses[0] if buses else None), None
        for bus in buses:
            if address.bus in (bus.id, f"{bus.id}.0") and bus.id:
                return bus, None
        name, _, number = address.bus.rpartition(".")
        for bus in buses:
            if number.isdigit() and name == (bus.id or _BOARD):
                unit = int(number) * (2 if bus.kind is Bus.IDE else 1) + (
                    address.unit or 0 if bus.kind is Bus.IDE else 0
                )
                return bus, (unit,)
            if not bus.id and address.bus == _BOARD:
                return bus, None
        known = ", ".join(bus.id or _BOARD for bus in buses)
        self._refuse(
            seat,
            f"there is no {seat.bus.value} bus {address.bus!r}",
            f"buses: {known}" if known else "make one with [[controller]], or leave it out",
        )
        return None, None

    def _find_hub(self, bus: UnitBus, unit: Unit) -> tuple[UnitBus, Unit] | None:
        """The hub that a USB port of several numbers is on."""
        if bus.kind is not Bus.USB or len(unit) < 2:
            return None
        for hub in self.of(Bus.USB):
            controller, _, port = hub.parent.partition("/")
            if hub.parent and controller == bus.id and _port(port) == unit[:-1]:
                return hub, unit[-1:]
        return None

    def seat(self, seat: Seat, kept: Place | None) -> bool:
        """Find a unit for a device; False where there is none."""
        for bus in self.of(seat.bus):
            if kept is not None and (unit := self._find_kept(bus, kept, seat)) is not None:
                self._take(bus, unit, seat)
                return True
        return any(self._seat_on(bus, seat) for bus in self.of(seat.bus))

    def _find_kept(self, bus: UnitBus, kept: Place, seat: Seat) -> Unit | None:
        units = (unit for unit in bus.units(seat.rank) if unit not in bus.taken)
        return next((unit for unit in units if bus.place(unit) == kept), None)

    def _seat_on(self, bus: UnitBus, seat: Seat) -> bool:
        unit = next((unit for unit in bus.units(seat.rank) if unit not in bus.taken), None)
        if unit is None:
            return False
        self._take(bus, unit, seat)
        return True

    def count_free(self, kind: Bus) -> int:
        """How many units of a kind are left."""
        return sum(unit not in bus.taken for bus in self.of(kind) for unit in bus.units())

    def _take(self, bus: UnitBus, unit: Unit, seat: Seat) -> None:
        bus.taken[unit] = seat.path
        self.places[seat.id] = bus.place(unit)

    def _refuse(self, seat: Seat, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(f"{seat.path}.address", message, hint))
