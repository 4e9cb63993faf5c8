"""Front ends: what the guest sees. The same device has a name of its own on each transport."""

from __future__ import annotations

import enum

import attrs

from qorch.option import Properties, json_word, properties
from qorch.pci import RootPort


class Transport(enum.Enum):
    """How virtio devices reach the guest; the value ends their names in QEMU."""

    PCI = "pci"
    MMIO = "device"


@attrs.frozen(kw_only=True)
class DevicePcieRootPort:
    """`-device pcie-root-port`: a place for one device, pluggable while the guest runs."""

    port: RootPort

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return {
            "driver": "pcie-root-port",
            "id": self.port.id,
            "bus": "pcie.0",
            "addr": f"{self.port.slot:#x}.{self.port.function:#x}",
            "chassis": self.port.chassis,
            **({"multifunction": True} if self.port.multifunction else {}),
        }

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceIsaSerial:
    """`-device isa-serial`."""

    id: str
    chardev: str

    def properties(self) -> Properties:
        """As `device_add` would take them (ISA has no hotplug)."""
        return {"driver": "isa-serial", **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceVirtioBlk:
    """`-device virtio-blk-*`: a disk."""

    transport: Transport
    id: str
    drive: str
    bus: str | None = None
    serial: str | None = None
    bootindex: int | None = None

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return virtio_properties("virtio-blk", self)

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceVirtioNet:
    """`-device virtio-net-*`: a network card; an empty `romfile` leaves PXE out."""

    transport: Transport
    id: str
    netdev: str
    mac: str
    bus: str | None = None
    romfile: str | None = None

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return virtio_properties("virtio-net", self)

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceVirtioRng:
    """`-device virtio-rng-*`."""

    transport: Transport
    id: str
    rng: str
    bus: str | None = None

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return virtio_properties("virtio-rng", self)

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceVirtioSerial:
    """`-device virtio-serial-*`: what named ports are plugged into."""

    transport: Transport
    id: str
    bus: str | None = None

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return virtio_properties("virtio-serial", self)

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceVirtSerialPort:
    """`-device virtserialport`: a named port."""

    id: str
    bus: str
    chardev: str
    name: str

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return {"driver": "virtserialport", **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceVirtioBalloon:
    """`-device virtio-balloon-*`."""

    transport: Transport
    id: str
    bus: str | None = None

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return virtio_properties("virtio-balloon", self)

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


def virtio_properties(kind: str, device: attrs.AttrsInstance) -> Properties:
    """The properties of a virtio device, whose name ends with its transport."""
    values = properties(device)
    return {"driver": f"{kind}-{values.pop('transport')}", **values}
