"""Named ports: what is `/dev/virtio-ports/NAME` in the guest."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.transport import find_transport
from qorch.handles import Handles
from qorch.plan import MachinePlan
from qorch.switch import Switch
from qorch.switch.backend import ChardevSocket
from qorch.switch.device import DeviceVirtioSerial, DeviceVirtSerialPort

AGENT_NAME = "org.qemu.guest_agent.0"


def make_channels(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """The guest agent's channel, on a socket of ours."""
    if plan.guest_agent:
        yield DeviceVirtioSerial(
            transport=find_transport(plan), id="channels", bus=plan.channel_bus
        )
        yield ChardevSocket(id="agent", fd=handles.sockets["agent"])
        yield DeviceVirtSerialPort(
            id="agent-dev", bus="channels.0", chardev="agent", name=AGENT_NAME
        )
