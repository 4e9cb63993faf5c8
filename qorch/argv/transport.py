"""How virtio devices reach the guest on each machine."""

from __future__ import annotations

from qorch.plan import MachinePlan
from qorch.spec import MachineFamily
from qorch.switch.device import Transport


def find_transport(plan: MachinePlan) -> Transport:
    """A microvm has no PCI bus."""
    return Transport.MMIO if plan.machine.family is MachineFamily.MICROVM else Transport.PCI
