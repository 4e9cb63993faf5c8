"""What a vm.toml says about serial ports, channels and the console."""

from __future__ import annotations

import enum

import attrs

from qorch.spec.common import AddressSpec, ChardevSpec, ChardevType
from qorch.units import Size


class SerialModel(enum.Enum):
    """QEMU's serial ports; `isa-debugcon` is the port that firmware writes to."""

    ISA = "isa-serial"
    PCI = "pci-serial"
    USB = "usb-serial"
    VIRTCONSOLE = "virtconsole"
    DEBUGCON = "isa-debugcon"


class ConsoleDevice(enum.Enum):
    """What qorch's own console is to the guest."""

    ISA = "isa-serial"
    VIRTCONSOLE = "virtconsole"
    NONE = "none"


@attrs.frozen(kw_only=True)
class ConsoleSpec:
    """`[vm.NAME.console]`: the port of `qorch console` and `qorch log`, and how much is kept."""

    device: ConsoleDevice = ConsoleDevice.ISA
    log_size: Size = Size(4 << 20)


@attrs.frozen(kw_only=True)
class SerialSpec:
    """`[[vm.NAME.serial]]`: a further serial port; `index` is the port's number in the guest."""

    model: SerialModel = SerialModel.ISA
    backend: ChardevSpec = ChardevSpec(type=ChardevType.PTY)
    index: int | None = None
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class ParallelSpec:
    """`[[vm.NAME.parallel]]`."""

    backend: ChardevSpec = ChardevSpec(type=ChardevType.NULL)
    index: int | None = None
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class ChannelSpec:
    """`[[vm.NAME.channel]]`: a port, with a name `/dev/virtio-ports/NAME` in the guest."""

    name: str | None = None
    backend: ChardevSpec = ChardevSpec()
    address: AddressSpec | None = None
