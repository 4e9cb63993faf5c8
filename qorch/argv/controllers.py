"""Controllers and bridges, each before what is plugged into it."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from qorch.argv.disks import find_floppy_order
from qorch.argv.transport import find_transport
from qorch.plan import ControllerPlan, MachinePlan
from qorch.switch import Switch
from qorch.switch.device import DeviceController, Transport, VirtioCommon

_CHASSIS_NR = ("pci-bridge",)


def make_controllers(plan: MachinePlan) -> Iterator[Switch]:
    """All of them, in the order of the plan."""
    transport = find_transport(plan)
    for controller in plan.controllers:
        switch = _make(controller, transport)
        if controller.driver == "isa-fdc":
            order = dict(find_floppy_order(list(plan.disks)))
            switch = attrs.evolve(switch, more={**order, **switch.more})
        yield switch


def _make(controller: ControllerPlan, transport: Transport) -> DeviceController:
    spec, model = controller.spec, controller.driver
    if controller.virtio and transport is Transport.MMIO:
        model = f"{model.removesuffix('-pci')}-{transport.value}"
    by_number = model in _CHASSIS_NR
    return DeviceController(
        model=model,
        id=controller.id,
        place=controller.place,
        chassis=None if by_number else controller.chassis,
        chassis_nr=controller.chassis if by_number else None,
        iothread=spec.iothread,
        num_queues=spec.queues,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
        more=dict(spec.properties),
    )
