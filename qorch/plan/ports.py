"""Serial and parallel ports, channels and qorch's own console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from qorch.errors import Problem
from qorch.place import Place
from qorch.plan.place import Placement
from qorch.spec import (
    AddressSpec,
    ChannelSpec,
    ConsoleDevice,
    ConsoleSpec,
    MachineSpec,
    ParallelSpec,
    SerialModel,
    SerialSpec,
)

AGENT, AGENT_CHANNEL = "agent", "org.qemu.guest_agent.0"
_SERIAL_PORTS = 4  # hw/char/serial-isa.c: MAX_ISA_SERIAL_PORTS
_PARALLEL_PORTS = 3  # hw/char/parallel.c


@attrs.frozen(kw_only=True)
class ConsolePlan:
    """qorch's own console."""

    spec: ConsoleSpec
    place: Place = Place()

    @property
    def is_there(self) -> bool:
        """Whether the machine has one at all."""
        return self.spec.device is not ConsoleDevice.NONE


@attrs.frozen(kw_only=True)
class SerialPlan:
    """A serial port of the guest's; its chardev has its id."""

    id: str
    spec: SerialSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class ParallelPlan:
    """A parallel port; its chardev has its id."""

    id: str
    spec: ParallelSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class ChannelPlan:
    """A virtio port with a name; its chardev has its id."""

    id: str
    spec: ChannelSpec
    place: Place = Place()


def plan_console(spec: MachineSpec, placement: Placement) -> ConsolePlan:
    """The console; the first ISA serial port is its."""
    place = placement.get("console")
    if spec.console.device is ConsoleDevice.ISA:
        place = Place(index=0)
    return ConsolePlan(spec=spec.console, place=place)


def plan_serials(
    path: str, spec: MachineSpec, placement: Placement, problems: list[Problem]
) -> Iterator[SerialPlan]:
    """The further serial ports; ISA ones are numbered."""
    isa = {
        index: serial
        for index, serial in enumerate(spec.serials)
        if serial.model is SerialModel.ISA
    }
    taken = {0: f"{path}.console"} if spec.console.device is ConsoleDevice.ISA else {}
    numbers = _number(f"{path}.serial", isa, taken, _SERIAL_PORTS, problems)
    for index, serial in enumerate(spec.serials):
        place = placement.get(f"serial{index}")
        if serial.model is SerialModel.ISA:
            place = _isa_place(serial.address, numbers.get(index))
        elif serial.model is SerialModel.DEBUGCON:
            place = _isa_place(serial.address, None)
        yield SerialPlan(id=f"serial{index}", spec=serial, place=place)


def plan_parallels(path: str, spec: MachineSpec, problems: list[Problem]) -> Iterator[ParallelPlan]:
    """The parallel ports."""
    ports = dict(enumerate(spec.parallels))
    numbers = _number(f"{path}.parallel", ports, {}, _PARALLEL_PORTS, problems)
    for index, parallel in ports.items():
        place = _isa_place(parallel.address, numbers.get(index))
        yield ParallelPlan(id=f"parallel{index}", spec=parallel, place=place)


def plan_channels(spec: MachineSpec, placement: Placement) -> Iterator[ChannelPlan]:
    """The named ports, that of the guest agent first."""
    if spec.guest_agent:
        agent = ChannelSpec(name=AGENT_CHANNEL)
        yield ChannelPlan(id=AGENT, spec=agent, place=placement.get(AGENT))
    for index, channel in enumerate(spec.channels):
        id_ = f"channel{index}"
        yield ChannelPlan(id=id_, spec=channel, place=placement.get(id_))


def _number(
    path: str,
    ports: Mapping[int, SerialSpec] | Mapping[int, ParallelSpec],
    taken: dict[int, str],
    limit: int,
    problems: list[Problem],
) -> dict[int, int]:
    """The number of each port in the guest: those given first, then the lowest that are free."""
    found: dict[int, int] = {}
    for index, port in ports.items():
        where = f"{path}[{index}]"
        if port.index is None:
            continue
        if not 0 <= port.index < limit:
            problems.append(
                Problem(
                    f"{where}.index",
                    f"{port.index} is not 0 to {limit - 1}",
                    "leave index out: one is chosen",
                )
            )
        elif port.index in taken:
            problems.append(
                Problem(
                    f"{where}.index",
                    f"port {port.index} is {taken[port.index]}'s",
                    "leave index out: one is chosen",
                )
            )
        else:
            taken[port.index] = where
            found[index] = port.index
    for index, port in ports.items():
        if port.index is None:
            free = next((number for number in range(limit) if number not in taken), None)
            if free is None:
                problems.append(
                    Problem(f"{path}[{index}]", f"there are {limit} ISA ports", "take fewer")
                )
                break
            taken[free] = f"{path}[{index}]"
            found[index] = free
    return found


def _isa_place(address: AddressSpec | None, number: int | None) -> Place:
    address = address or AddressSpec()
    return Place(index=number, iobase=address.iobase, irq=address.irq)
