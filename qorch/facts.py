"""What is known of the host: looked at once by `probe`, asked of nobody else afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from qorch.capabilities.values import Emulator
from qorch.firmware import Firmware
from qorch.paths import StateDir
from qorch_net.host import HostNetwork
from qorch_storage.info import ImageInfo


@attrs.frozen(kw_only=True)
class Kvm:
    """Whether KVM is there: `error` is None when /dev/kvm opens, `hardware` when vmx or svm is.

    Without either CPU flag a /dev/kvm may open and still run no ordinary guest (KVM inside a
    virtual machine whose CPU is emulated in software, as kvm_pvm does).
    """

    error: str | None
    hardware: bool

    @property
    def usable(self) -> bool:
        """Whether any guest can be trusted to it."""
        return self.error is None and self.hardware


@attrs.frozen(kw_only=True)
class Image:
    """A disk image that the spec names: its chain from the top down.

    Where it cannot be used, `error` says why, and the chain is what the spec says of it.
    """

    chain: tuple[ImageInfo, ...] = ()
    error: str | None = None
    hint: str | None = None


@attrs.frozen(kw_only=True)
class File:
    """A file that the spec names: its content if that was asked for, or why it cannot be read.

    `elf` tells a kernel that is not packed (`vmlinux`) from a bzImage.
    """

    text: str | None = None
    elf: bool = False
    error: str | None = None


@attrs.frozen
class PageCount:
    """How many huge pages of one size the host can have, and how many of them are free."""

    total: int
    free: int


@attrs.frozen(kw_only=True)
class HugePages:
    """The host's huge pages by their size in bytes; `default` is what no size given means."""

    default: int = 2 << 20
    pages: Mapping[int, PageCount] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class HostPci:
    """A PCI device of the host: its driver, its IOMMU group, and who else keeps that group."""

    driver: str | None = None
    group: str | None = None
    busy: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class HostUsb:
    """A USB device of the host: where it is plugged in, and what it is."""

    bus: int
    device: int
    vendor: int
    product: int
    name: str | None = None

    def __str__(self) -> str:
        what = f" {self.name}" if self.name else ""
        return f"{self.bus}.{self.device} ({self.vendor:04x}:{self.product:04x}{what})"


@attrs.frozen(kw_only=True)
class Room:
    """What memory the host can give: bytes of RAM and swap, and how far its CPUs can address."""

    ram: int
    swap: int = 0
    address_bits: int | None = None


@attrs.frozen(kw_only=True)
class Facts:
    """The host as one plan sees it.

    `places` are the directories of all pools, with no symbolic links in them.
    """

    state: StateDir
    host_id: str
    cpus: frozenset[int]
    kvm: Kvm
    programs: Mapping[str, Path]
    network: HostNetwork
    images: Mapping[Path, Image]
    files: Mapping[Path, File]
    volumes: frozenset[Path]
    block_devices: frozenset[Path] = frozenset()
    io_uring: bool = False
    vhost_net: bool = False
    host_usb: tuple[HostUsb, ...] = ()
    host_pci: Mapping[str, HostPci] = attrs.field(factory=dict)
    mdevs: frozenset[str] = frozenset()
    scsi_generic: Mapping[str, Path] = attrs.field(factory=dict)
    hugepages: HugePages = HugePages()
    firmwares: tuple[Firmware, ...] = ()
    emulators: Mapping[Path, Emulator] = attrs.field(factory=dict)
    emulator_errors: Mapping[Path, str] = attrs.field(factory=dict)
    room: Room | None = None
    places: frozenset[Path] = frozenset()

    @property
    def owner(self) -> str:
        """The mark of this state directory."""
        return self.state.owner
