"""Where each device of a machine sits."""

from __future__ import annotations

import attrs

from qorch.errors import Problem
from qorch.pci import SPARE_PORTS, make_root_ports
from qorch.plan.memory import MemoryDevicePlan
from qorch.plan.values import MachinePlan
from qorch.spec import MemoryDeviceModel


def place(machine: MachinePlan, problems: list[Problem]) -> MachinePlan:
    """Give each device a root port: cards first, so that a new disk does not rename them."""
    count = len(machine.nics) + len(machine.disks) + bool(machine.seed)
    count += len(machine.shares) + sum(map(_is_pci, machine.memory.devices)) + machine.guest_agent
    count += machine.balloon + machine.rng + SPARE_PORTS
    try:
        ports = make_root_ports(count)
    except ValueError as error:
        problems.append(Problem(f"vm.{machine.name}", str(error)))
        return machine
    bus = iter(port.id for port in ports)
    return attrs.evolve(
        machine,
        ports=ports,
        nics=tuple(attrs.evolve(nic, bus=next(bus)) for nic in machine.nics),
        disks=tuple(attrs.evolve(disk, bus=next(bus)) for disk in machine.disks),
        seed=attrs.evolve(machine.seed, bus=next(bus)) if machine.seed else None,
        balloon_bus=next(bus) if machine.balloon else None,
        rng_bus=next(bus) if machine.rng else None,
        memory=attrs.evolve(
            machine.memory,
            devices=tuple(
                attrs.evolve(device, bus=next(bus)) if _is_pci(device) else device
                for device in machine.memory.devices
            ),
        ),
        channel_bus=next(bus) if machine.guest_agent else None,
        shares=tuple(attrs.evolve(share, bus=next(bus)) for share in machine.shares),
    )


def _is_pci(device: MemoryDevicePlan) -> bool:
    return device.spec.model in (MemoryDeviceModel.VIRTIO_MEM, MemoryDeviceModel.VIRTIO_PMEM)
