"""The controllers of a machine: those that were asked for, and those that its devices need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import attrs

from qorch.errors import Problem
from qorch.place import Place
from qorch.plan.controllers import ControllerPlan
from qorch.plan.place.catalogue import MODELS, Model, find_model, known_models
from qorch.plan.place.pci import PciBus
from qorch.plan.place.seat import Bus, Home, Seat, Slot
from qorch.plan.place.units import UnitBus
from qorch.spec import ControllerSpec, MachineFamily

_IMPLIED = {
    Bus.SCSI: ("virtio-scsi-pci", "scsi"),
    Bus.SATA: ("ich9-ahci", "sata"),
    Bus.FLOPPY: ("isa-fdc", "fdc"),
    Bus.VIRTIO_SERIAL: ("virtio-serial-pci", "virtio-serial"),
    Bus.CCID: ("usb-ccid", "ccid"),
}
_USB = {
    MachineFamily.Q35: ControllerSpec(model="qemu-xhci", properties={"p2": 15, "p3": 15}),
    MachineFamily.PC: ControllerSpec(model="piix3-usb-uhci"),
}
_HINTS = {
    Bus.IDE: 'there are 4 on pc, and none on q35: use bus = "sata"',
    Bus.FLOPPY: "a controller has two drives",
    Bus.USB: "a microvm has no USB",
}


@attrs.frozen
class Controller:
    """One controller: its model, what the file says of it, and the place it wants."""

    id: str
    model: Model
    spec: ControllerSpec
    path: str
    rank: int = 0

    @property
    def seat(self) -> Seat:
        """What it asks of its place."""
        return Seat(
            id=self.id,
            path=self.path,
            bus=self.model.on,
            address=self.spec.address,
            slot=self.model.slot,
            home=self.model.home,
            rank=self.model.rank + self.rank if self.model.on is Bus.PCI else 0,
            fixed=self.model.fixed,
            virtio=self.model.virtio,
        )

    @property
    def last(self) -> int:
        """Its last unit, by its own properties."""
        names = {
            "qemu-xhci": ("p2", "p3"),
            "nec-usb-xhci": ("p2", "p3"),
            "pci-ohci": ("num-ports",),
        }
        given = [
            value
            for name in names.get(self.model.driver, ())
            if isinstance(value := self.spec.properties.get(name), int)
        ]
        ports = self.spec.properties.get(self.model.ports or "")
        return ports - 1 if isinstance(ports, int) else max(given, default=self.model.last)


@attrs.define
class Controllers:
    """The controllers while places are given out."""

    path: str
    family: MachineFamily
    all: dict[str, Controller]
    problems: list[Problem]

    @classmethod
    def from_specs(
        cls,
        path: str,
        family: MachineFamily,
        specs: Sequence[ControllerSpec],
        problems: list[Problem],
    ) -> Controllers:
        """Those that the file names."""
        found: dict[str, Controller] = {}
        for index, spec in enumerate(specs):
            where, model = f"{path}.controller[{index}]", find_model(spec.model)
            id_ = spec.id or f"controller{index}"
            if model is None:
                message = f"{spec.model!r} is no controller that qorch knows"
                problems.append(Problem(f"{where}.model", message, f"it knows {known_models()}"))
                continue
            if id_ in found:
                problems.append(
                    Problem(
                        f"{where}.id", f"{id_!r} is {found[id_].path} already", "give it another id"
                    )
                )
            problems += [
                Problem(
                    f"{where}.properties",
                    f"a {model.driver} needs {name}",
                    f"properties = {{ {name} = … }}",
                )
                for name in model.needs
                if name not in spec.properties
            ]
            rank = sum(known.model is model for known in found.values())
            found[id_] = Controller(id_, model, spec, where, rank)
        return cls(path, family, found, problems)

    def seats(self, kind: Bus) -> list[Seat]:
        """The controllers that are on such a bus themselves."""
        return [controller.seat for controller in self.all.values() if controller.model.on is kind]

    def is_hub(self, seat: Seat) -> bool:
        """Whether it is a USB hub's."""
        return seat.id in self.all and self.all[seat.id].model.driver == "usb-hub"

    # -- what is behind them -----------------------------------------------------------------

    def board_buses(self) -> Iterator[UnitBus]:
        """What the chipset has."""
        if self.family is MachineFamily.Q35:
            yield UnitBus("", Bus.SATA, 0, 5)
        elif self.family is MachineFamily.PC:
            yield UnitBus("", Bus.IDE, 0, 3)
            yield UnitBus("", Bus.FLOPPY, 0, 1)

    def buses(self) -> Iterator[UnitBus]:
        """The numbered buses behind controllers; a companion's ports are its master's."""
        for controller in self.all.values():
            if controller.model.driver != "usb-hub":
                yield from self._buses_of(controller)

    def _buses_of(self, controller: Controller) -> Iterator[UnitBus]:
        model = controller.model
        if (
            model.offers not in (Bus.PCI, Bus.NONE)
            and "masterbus" not in controller.spec.properties
        ):
            yield UnitBus(controller.id, model.offers, model.first, controller.last)

    def hub_bus(self, hub: Seat, places: Mapping[str, Place]) -> Iterator[UnitBus]:
        """What is behind a hub, if it has a place."""
        model, place = self.all[hub.id].model, places.get(hub.id)
        if place is not None:
            bus = (place.bus or "").removesuffix(".0")
            yield UnitBus(hub.id, Bus.USB, model.first, model.last, parent=f"{bus}/{place.port}")

    def pci_buses(self) -> Iterator[PciBus]:
        """The buses behind bridges and ports."""
        for controller in self.all.values():
            model = controller.model
            if model.offers is Bus.PCI:
                yield PciBus(controller.id, model.behind, model.first, model.last)

    # -- what the devices need ---------------------------------------------------------------

    def imply(self, kind: Bus) -> Iterator[UnitBus]:
        """One more controller for such devices, if there can be one."""
        if kind is Bus.USB:
            spec, name = _USB.get(self.family), "usb"
            if spec is None or any(c.model.offers is Bus.USB for c in self.all.values()):
                return
        elif kind not in _IMPLIED or (kind is Bus.FLOPPY and self._has_fdc()):
            return
        else:
            model_name, name = _IMPLIED[kind]
            spec = ControllerSpec(model=model_name)
        yield from self._buses_of(self._add(name, spec))

    def _has_fdc(self) -> bool:
        """A board has one floppy controller at the most: its ports are fixed."""
        return self.family is MachineFamily.PC or any(
            controller.model.offers is Bus.FLOPPY for controller in self.all.values()
        )

    def imply_hub(self) -> Seat:
        """One more USB hub."""
        return self._add("usb-hub", ControllerSpec(model="usb-hub")).seat

    def make_bridge(self) -> Seat:
        """A bridge to conventional PCI; it is there once it is kept."""
        express = self.family is MachineFamily.Q35
        model = MODELS["pcie-pci-bridge" if express else "pci-bridge"]
        bridge = self._make("pci-bridge", ControllerSpec(model=model.driver))
        return bridge.seat if express else attrs.evolve(bridge.seat, home=Home.SPARE)

    def keep_bridge(self, seat: Seat) -> None:
        """The bridge was needed."""
        model = "pcie-pci-bridge" if self.family is MachineFamily.Q35 else "pci-bridge"
        self.all[seat.id] = Controller(
            seat.id, MODELS[model], ControllerSpec(model=model), self.path
        )

    def _add(self, name: str, spec: ControllerSpec) -> Controller:
        controller = self._make(name, spec)
        self.all[controller.id] = controller
        return controller

    def _make(self, name: str, spec: ControllerSpec) -> Controller:
        model = MODELS[spec.model]
        names = (name if name == "usb" and not number else f"{name}{number}" for number in count())
        id_ = next(name for name in names if name not in self.all)
        rank = sum(known.model is model for known in self.all.values())
        return Controller(id_, model, spec, self.path, rank)

    def refuse(self, seat: Seat) -> Problem:
        """A device that has nothing to be plugged into."""
        message = f"nothing is left to plug it into: all {seat.bus.value} units are taken"
        return Problem(seat.path, message, _HINTS.get(seat.bus))

    # -- the result --------------------------------------------------------------------------

    def finish(
        self, places: Mapping[str, Place], ports: Sequence[tuple[str, Place]]
    ) -> tuple[ControllerPlan, ...]:
        """Every controller, those that others are behind first."""
        own = [
            (
                Controller(
                    id_, MODELS["pcie-root-port"], ControllerSpec(model="pcie-root-port"), ""
                ),
                p,
            )
            for id_, p in ports
        ]
        rest = [(c, places.get(id_, Place())) for id_, c in self.all.items()]
        numbers = {id_: int(id_.removeprefix("rp")) for id_, _ in ports}
        taken = {*numbers.values()}
        for controller, _ in rest:
            given = controller.spec.properties.get(controller.model.chassis or "")
            taken |= {given} if isinstance(given, int) else set()
        free = (number for number in count(1) if number not in taken)
        plans = [
            ControllerPlan(
                id=c.id,
                driver=c.model.driver,
                spec=c.spec,
                place=place,
                virtio=c.model.virtio,
                chassis=_chassis(c, numbers, free),
            )
            for c, place in (*own, *rest)
        ]
        return tuple(_sort(plans))


def _chassis(controller: Controller, numbers: Mapping[str, int], free: Iterator[int]) -> int | None:
    name = controller.model.chassis
    if name is None or name in controller.spec.properties:
        return None
    return numbers.get(controller.id) or next(free)


def _sort(plans: list[ControllerPlan]) -> Iterator[ControllerPlan]:
    """Parents before children, otherwise as they are; a USB companion after its master."""
    known = {plan.id: plan for plan in plans}
    done: set[str] = set()

    def emit(plan: ControllerPlan) -> Iterator[ControllerPlan]:
        if plan.id in done:
            return
        done.add(plan.id)
        for bus in (plan.place.bus, plan.spec.properties.get("masterbus")):
            name = str(bus or "")
            parent = known.get(name) or known.get(name.rpartition(".")[0])
            if parent is not None:
                yield from emit(parent)
        yield plan

    for plan in plans:
        yield from emit(plan)


__all__ = ["Controller", "Controllers", "Slot"]
