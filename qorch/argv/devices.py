"""All other devices."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.transport import find_transport
from qorch.plan import MachinePlan
from qorch.switch import Switch
from qorch.switch.backend import ObjectRngRandom
from qorch.switch.device import DevicePcieRootPort, DeviceVirtioBalloon, DeviceVirtioRng


def make_ports(plan: MachinePlan) -> Iterator[Switch]:
    """The root ports that devices are behind."""
    yield from (DevicePcieRootPort(port=port) for port in plan.ports)


def make_rng(plan: MachinePlan) -> Iterator[Switch]:
    """Random numbers from the host."""
    if plan.rng:
        transport = find_transport(plan)
        yield ObjectRngRandom(id="rng0")
        yield DeviceVirtioRng(transport=transport, id="rng0-dev", rng="rng0", bus=plan.rng_bus)


def make_balloon(plan: MachinePlan) -> Iterator[Switch]:
    """The balloon."""
    if plan.balloon:
        transport = find_transport(plan)
        yield DeviceVirtioBalloon(transport=transport, id="balloon0", bus=plan.balloon_bus)
