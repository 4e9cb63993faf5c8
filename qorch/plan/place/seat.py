"""What a device asks of its place."""

from __future__ import annotations

import enum

import attrs

from qorch.spec import AddressSpec


class Bus(enum.Enum):
    """What a device is plugged into."""

    PCI = "PCI"
    USB = "USB"
    SCSI = "SCSI"
    SATA = "SATA"
    IDE = "IDE"
    FLOPPY = "floppy"
    VIRTIO_SERIAL = "virtio-serial"
    CCID = "CCID"
    ISA = "ISA"
    NONE = "none"


class Slot(enum.Enum):
    """Where on PCI Express a device belongs (docs/pcie.txt of QEMU).

    One in a root port of its own, or behind a bridge to conventional PCI, can be unplugged while
    the guest runs; one of the board's own bus cannot.
    """

    PORT = "port"
    BRIDGE = "bridge"
    BOARD = "board"


class Home(enum.Enum):
    """The devices that lie together, so that a new one of another kind moves none of them."""

    NIC = "nic"
    DISK = "disk"
    SERVICE = "service"
    HOSTDEV = "hostdev"
    BOARD = "board"
    SPARE = "spare"


@attrs.frozen(kw_only=True)
class Seat:
    """One device that wants a place.

    `rank` is its number within its home, `fixed` the slot and function of the root bus that it has
    if they are free. `virtio` devices do without PCI on a microvm. On a numbered bus `rank` is
    the first unit that it may have.
    """

    id: str
    path: str
    bus: Bus = Bus.PCI
    address: AddressSpec | None = None
    slot: Slot = Slot.PORT
    home: Home = Home.SERVICE
    rank: int = 0
    fixed: tuple[int, int] | None = None
    virtio: bool = False
