"""PCI: pure, stable, explicit addresses win.

On q35 a device that can be unplugged has a root port of its own (docs/pcie.txt of QEMU), or sits
behind a bridge to conventional PCI. Root ports are functions of multifunction devices, eight in a
slot. Devices of a kind have slots of their own, so that a new one of another kind moves none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from qorch.errors import Problem
from qorch.place import Place
from qorch.plan.place.seat import Home, Seat, Slot
from qorch.spec import MachineFamily

FUNCTIONS = 8
LAST_SLOT = 31
SPARE_PORTS = 4
Point = tuple[int, int]

_FIRST_PORT, _LAST_PORT = 2, 0x1A  # slots; 1 is for VGA, 0x1b for sound, 0x1d for USB, 0x1f ICH9's
_PORT_SLOTS = {
    Home.NIC: (2, 8, 9),
    Home.DISK: (3, 10, 11, 12, 13),
    Home.SERVICE: (4, 14, 15, 16),
    Home.HOSTDEV: (5, 17, 18),
    Home.SPARE: (6,),
    Home.BOARD: (),
}
MAX_PORTS = (_LAST_PORT - _FIRST_PORT + 1) * FUNCTIONS
_PC_SLOTS = {
    Home.NIC: range(3, 9),
    Home.DISK: range(9, 17),
    Home.SERVICE: range(17, 25),
    Home.HOSTDEV: range(25, 28),
    Home.BOARD: range(28, 31),
    Home.SPARE: range(31, 32),  # for a bridge, once all others are taken
}


@attrs.define
class PciBus:
    """One bus: what has which slot and function. `behind` tells what belongs there."""

    name: str
    behind: Slot
    first: int = 0
    last: int = LAST_SLOT
    taken: dict[Point, str] = attrs.field(factory=dict)
    multifunction: dict[int, bool] = attrs.field(factory=dict)

    def is_free(self, slot: int) -> bool:
        """Whether nothing sits in a slot."""
        return all(taken != slot for taken, _ in self.taken)

    def free_slots(self) -> Iterator[int]:
        """The empty slots."""
        return (slot for slot in range(self.first, self.last + 1) if self.is_free(slot))


@attrs.define
class PciMap:
    """The buses of a machine while places are given out."""

    root: PciBus
    express: bool
    buses: dict[str, PciBus]
    problems: list[Problem]
    points: dict[str, tuple[str, Point]] = attrs.field(factory=dict)

    @classmethod
    def from_family(cls, family: MachineFamily, problems: list[Problem]) -> PciMap:
        """The root bus with the chipset's own functions on it."""
        express = family is MachineFamily.Q35
        root = PciBus("pcie.0" if express else "pci.0", Slot.BOARD)
        chipset = ((0, 0), (0x1F, 0), (0x1F, 2), (0x1F, 3))
        for point in chipset if express else ((0, 0), (1, 0), (1, 1), (1, 3)):
            root.taken[point] = "the chipset"
        return cls(root, express, {root.name: root}, problems)

    # -- what was asked for ------------------------------------------------------------------

    def claim(self, seat: Seat) -> bool:
        """Give a device the slot that it names; False if it names none."""
        address = seat.address
        if address is None or (address.slot is None and address.bus is None):
            return False
        name = address.bus or self.root.name
        bus = self.buses.get(name)
        if bus is None:
            known = ", ".join(self.buses)
            self._refuse(seat, f"there is no PCI bus {name!r}", f"buses: {known}")
            return True
        slot = address.slot
        if slot is None:
            slot = next(bus.free_slots(), None)
            if slot is None:
                self._refuse(seat, f"bus {name} is full")
                return True
        point = (slot, address.function or 0)
        if self._check(seat, bus, point):
            self._take(seat, bus, point)
            if address.multifunction is not None and not point[1]:
                bus.multifunction[slot] = address.multifunction
        return True

    def _check(self, seat: Seat, bus: PciBus, point: Point) -> bool:
        slot, function = point
        last = 0 if bus.behind is Slot.PORT else bus.last
        if not bus.first <= slot <= last:
            rest = f"{bus.first:#x} to {last:#x}" if last > bus.first else f"{last:#x}"
            self._refuse(seat, f"bus {bus.name} has no slot {slot:#x}", f"it has {rest}")
        elif not 0 <= function < FUNCTIONS:
            self._refuse(seat, f"{function} is no function of a slot", "functions are 0 to 7")
        elif (owner := bus.taken.get(point)) is not None:
            where = f"slot {slot:#x} function {function} of {bus.name}"
            self._refuse(seat, f"{where} belongs to {owner}", "leave the address out, or change it")
        else:
            return True
        return False

    def _refuse(self, seat: Seat, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(f"{seat.path}.address", message, hint))

    def _take(self, seat: Seat, bus: PciBus, point: Point) -> None:
        bus.taken[point] = seat.path
        self.points[seat.id] = (bus.name, point)

    # -- what is decided here ----------------------------------------------------------------

    def seat(self, seat: Seat, kept: Place | None) -> bool:
        """Find a place for a device; False where there is none."""
        if self._keep(seat, kept):
            return True
        if self.express and seat.slot is Slot.PORT:
            return self._seat_behind_port(seat)
        if self.express and seat.slot is Slot.BRIDGE:
            return self._seat_behind_bridge(seat)
        return self._seat_on_root(seat) or self._seat_behind_bridge(seat)

    def _keep(self, seat: Seat, kept: Place | None) -> bool:
        """The place it has had, if that is still free."""
        if kept is None or kept.bus is None or kept.addr is None:
            return False
        slot, function = (int(part, 0) for part in kept.addr.split("."))
        bus = self.buses.get(kept.bus)
        if bus is None and (port := _port_of(kept.bus)) and self._open_port(port):
            bus = self.buses[kept.bus]
        if bus is None or (slot, function) in bus.taken:
            return False
        if not bus.first <= slot <= bus.last:
            return False
        self._take(seat, bus, (slot, function))
        return True

    def _seat_behind_port(self, seat: Seat) -> bool:
        for point in self._port_points(seat):
            name = port_name(point)
            if name not in self.buses and not self._open_port(point):
                continue
            if self.buses[name].is_free(0):
                self._take(seat, self.buses[name], (0, 0))
                return True
        return False

    def _port_points(self, seat: Seat) -> Iterator[Point]:
        """The places of root ports in the order in which they are tried."""
        slots = _PORT_SLOTS[seat.home]
        if seat.rank < len(slots) * FUNCTIONS:
            yield slots[seat.rank // FUNCTIONS], seat.rank % FUNCTIONS
        others = (*range(7, 8), *range(19, _LAST_PORT + 1), *range(_FIRST_PORT, _LAST_PORT + 1))
        for slot in (*slots, *others):
            yield from ((slot, function) for function in range(FUNCTIONS))

    def _open_port(self, point: Point) -> bool:
        """A root port at a place; with function 0 of its slot, without which none is seen."""
        slot, function = point
        if function and (slot, 0) not in self.root.taken and not self._open_port((slot, 0)):
            return False
        owner = self.root.taken.get((slot, 0))
        if point in self.root.taken or (function and owner != port_name((slot, 0))):
            return False
        name = port_name(point)
        self.root.taken[point] = name
        self.root.multifunction[slot] = True
        self.buses[name] = PciBus(name, Slot.PORT, last=0)
        return True

    def _seat_behind_bridge(self, seat: Seat) -> bool:
        for bus in self.buses.values():
            if bus.behind is Slot.BRIDGE:
                for slot in bus.free_slots():
                    self._take(seat, bus, (slot, 0))
                    return True
        return False

    def _seat_on_root(self, seat: Seat) -> bool:
        if seat.fixed is not None and self._has_room(seat.fixed):
            self._take(seat, self.root, seat.fixed)
            return True
        for slot in self._root_slots(seat):
            if self.root.is_free(slot):
                self._take(seat, self.root, (slot, 0))
                return True
        return False

    def _has_room(self, point: Point) -> bool:
        """Whether the root bus has it free, and with it a function 0: no guest looks further."""
        slot, function = point
        return point not in self.root.taken and (not function or (slot, 0) in self.root.taken)

    def _root_slots(self, seat: Seat) -> Iterator[int]:
        if self.express:
            yield from (0x1C, 0x1E, *range(_LAST_PORT, _FIRST_PORT - 1, -1), 0x1B, 0x1D)
            return
        home = _PC_SLOTS[seat.home]
        if seat.rank < len(home):
            yield home[seat.rank]
        yield from home
        yield from range(3, LAST_SLOT)

    def add_spare_ports(self) -> None:
        """Root ports that nothing sits behind: for what is plugged later."""
        free = sum(bus.behind is Slot.PORT and bus.is_free(0) for bus in self.buses.values())
        spare = Seat(id="", path="", home=Home.SPARE)
        for point in self._port_points(spare):
            if free >= SPARE_PORTS:
                return
            free += port_name(point) not in self.buses and self._open_port(point)

    def refuse_single(self) -> None:
        """A function 0 that denies the others of its slot: QEMU does not take them."""
        for bus in self.buses.values():
            for slot in (slot for slot, given in bus.multifunction.items() if not given):
                others = (bus.taken.get((slot, function)) for function in range(1, FUNCTIONS))
                if names := ", ".join(filter(None, others)):
                    path = f"{bus.taken[slot, 0]}.address.multifunction"
                    message = f"false keeps {names} out of slot {slot:#x} of {bus.name}"
                    self.problems.append(Problem(path, message, "leave it out"))

    # -- the result --------------------------------------------------------------------------

    def find_unseen(self) -> Iterator[str]:
        """Tell what is in vain: guests look for further functions only where there is a first."""
        for bus in self.buses.values():
            slots: dict[int, list[str]] = {}
            for (slot, _), owner in sorted(bus.taken.items()):
                slots.setdefault(slot, []).append(owner)
            for slot, owners in slots.items():
                if (slot, 0) not in bus.taken:
                    where = f"slot {slot:#x} of {bus.name} has no function 0"
                    yield f"guests do not find {', '.join(owners)}: {where}; give one of them that"

    def port_places(self) -> Iterator[tuple[str, Place]]:
        """The root ports that were made here, by name, in the order of their places."""
        for point, name in sorted(self.root.taken.items()):
            if name == port_name(point):
                yield name, self._place(self.root, point)

    def places(self) -> Iterator[tuple[str, Place]]:
        """The place of each device by its id."""
        for id_, (name, point) in self.points.items():
            yield id_, self._place(self.buses[name], point)

    def _place(self, bus: PciBus, point: Point) -> Place:
        slot, function = point
        more = any(taken == slot and at for taken, at in bus.taken)
        given = bus.multifunction.get(slot)
        several = (given if given is not None else more) if function == 0 else None
        return Place(bus=bus.name, addr=f"{slot:#x}.{function:#x}", multifunction=several or None)


def port_name(point: Point) -> str:
    """A root port by its place: `rp16` has slot 2, function 0."""
    return f"rp{point[0] * FUNCTIONS + point[1]}"


def _port_of(name: str) -> Point | None:
    number = name.removeprefix("rp")
    return divmod(int(number), FUNCTIONS) if name != number and number.isdigit() else None


def seat_all(
    pci: PciMap,
    seats: Iterable[Seat],
    kept: Mapping[str, Place],
    make_bridge: Callable[[], Seat],
) -> Iterator[Seat]:
    """Give every device a place: first those that name one, then those that had one, then others.

    Yields the bridges that had to be made.
    """
    waiting = [seat for seat in seats if not pci.claim(seat)]
    waiting.sort(key=lambda seat: (seat.id not in kept, seat.fixed is not None and seat.fixed[1]))
    for seat in waiting:
        if pci.seat(seat, kept.get(seat.id)):
            continue
        bridge = make_bridge()
        if pci.seat(attrs.evolve(bridge, slot=Slot.PORT), kept.get(bridge.id)):
            pci.buses[bridge.id] = PciBus(bridge.id, Slot.BRIDGE, first=1)
            yield bridge
            if pci.seat(seat, None):
                continue
        limit = f"{MAX_PORTS} root ports" if pci.express else f"{LAST_SLOT + 1} slots"
        pci.problems.append(
            Problem(
                seat.path,
                f"no PCI slot is left: there are {limit}",
                "put a pcie-root-port or pci-bridge there, in [[controller]]",
            )
        )
