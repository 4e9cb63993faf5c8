"""Serial and parallel ports, channels."""

from __future__ import annotations

import attrs

from qorch.switch.device import Device, DeviceModel


@attrs.frozen(kw_only=True)
class DeviceSerial(DeviceModel):
    """`-device isa-serial`, `pci-serial`, `usb-serial`, `isa-debugcon` or `virtconsole`."""

    chardev: str


@attrs.frozen(kw_only=True)
class DeviceIsaParallel(Device):
    """`-device isa-parallel`."""

    chardev: str

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "isa-parallel"


@attrs.frozen(kw_only=True)
class DeviceVirtserialport(Device):
    """`-device virtserialport`: a port with a name, `/dev/virtio-ports/NAME` in the guest."""

    chardev: str
    name: str | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "virtserialport"
