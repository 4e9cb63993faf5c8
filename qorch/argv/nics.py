"""Network cards and what is behind them."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.transport import find_transport
from qorch.plan import MachinePlan, NicPlan
from qorch.switch import Switch
from qorch.switch.backend import NetdevTap
from qorch.switch.device import Transport
from qorch.switch.nic import DeviceVirtioNet, NicCommon


def make_nic(plan: MachinePlan, nic: NicPlan, fd: int) -> Iterator[Switch]:
    """A card on the tap that is inherited as `fd`."""
    transport = find_transport(plan)
    yield NetdevTap(id=nic.id, fd=fd)
    yield DeviceVirtioNet(
        transport=transport,
        id=f"{nic.id}-dev",
        place=nic.place,
        nic=NicCommon(
            netdev=nic.id, mac=nic.mac, romfile="" if transport is Transport.PCI else None
        ),
    )
