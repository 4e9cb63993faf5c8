"""What a vm.toml says about all the other devices."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import attrs

from qorch.spec.common import AddressSpec, ChardevSpec, VirtioSpec
from qorch.units import Duration, Size, Value


class RngBackend(enum.Enum):
    """Where random numbers come from: a file of the host, QEMU itself, or a daemon."""

    RANDOM = "rng-random"
    BUILTIN = "rng-builtin"
    EGD = "rng-egd"


@attrs.frozen(kw_only=True)
class RngSpec:
    """`[[vm.NAME.rng]]`: virtio-rng. A machine has one unless it says `rng = false`."""

    backend: RngBackend = RngBackend.RANDOM
    source: Path = Path("/dev/urandom")
    egd: ChardevSpec | None = None
    max_bytes: int | None = None
    period: Duration | None = None
    address: AddressSpec | None = None
    virtio: VirtioSpec = VirtioSpec()


class WatchdogModel(enum.Enum):
    """QEMU's watchdogs; `itco` is in the q35 chipset and only has to be armed."""

    I6300ESB = "i6300esb"
    IB700 = "ib700"
    ITCO = "itco"


class WatchdogAction(enum.Enum):
    """What happens when the guest no longer feeds it (qapi WatchdogAction)."""

    RESET = "reset"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    PAUSE = "pause"
    NONE = "none"
    INJECT_NMI = "inject-nmi"


@attrs.frozen(kw_only=True)
class WatchdogSpec:
    """`[[vm.NAME.watchdog]]`; QEMU has one action for all of them."""

    model: WatchdogModel = WatchdogModel.I6300ESB
    action: WatchdogAction = WatchdogAction.RESET
    address: AddressSpec | None = None


class PanicModel(enum.Enum):
    """How the guest tells that it has panicked."""

    ISA = "pvpanic"
    PCI = "pvpanic-pci"


@attrs.frozen(kw_only=True)
class PanicSpec:
    """`[[vm.NAME.panic]]`."""

    model: PanicModel = PanicModel.ISA
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class VsockSpec:
    """`[vm.NAME.vsock]`: sockets between host and guest; without a `cid` a free one is kept."""

    cid: int | None = None
    address: AddressSpec | None = None
    virtio: VirtioSpec = VirtioSpec()


class IommuModel(enum.Enum):
    """QEMU's IOMMUs."""

    INTEL = "intel-iommu"
    AMD = "amd-iommu"
    VIRTIO = "virtio-iommu"


@attrs.frozen(kw_only=True)
class IommuSpec:
    """`[vm.NAME.iommu]`; `intremap` needs `kernel_irqchip = "split"` under KVM."""

    model: IommuModel = IommuModel.INTEL
    intremap: bool | None = None
    caching_mode: bool | None = None
    eim: bool | None = None
    device_iotlb: bool | None = None
    aw_bits: int | None = None
    xtsup: bool | None = None
    passthrough: bool | None = None
    dma_translation: bool | None = None
    address: AddressSpec | None = None


class ShareType(enum.Enum):
    """How a directory of the host is shared."""

    VIRTIOFS = "virtiofs"
    P9 = "9p"


class SecurityModel(enum.Enum):
    """Who owns files in a 9p share: the guest's users, QEMU's, or what attributes record."""

    MAPPED = "mapped"
    PASSTHROUGH = "passthrough"
    NONE = "none"
    MAPPED_FILE = "mapped-file"


@attrs.frozen(kw_only=True)
class ShareSpec:
    """`[[vm.NAME.share]]`: a directory of the host, mounted by its `tag` in the guest.

    `socket` is a virtiofsd that somebody else runs; `path` is not needed then. `security_model`,
    `fmode`, `dmode`, `multidevs` and `writeout` are 9p's, `cache`, `xattr` and `queue_size`
    virtiofs's.
    """

    type: ShareType = ShareType.VIRTIOFS
    path: Path | None = None
    tag: str
    read_only: bool = False
    security_model: SecurityModel | None = None
    fmode: str | None = None
    dmode: str | None = None
    multidevs: str | None = None
    writeout: bool = False
    cache: str | None = None
    xattr: bool = False
    queue_size: int | None = None
    socket: Path | None = None
    binary: Path | None = None
    bootindex: int | None = None
    address: AddressSpec | None = None
    virtio: VirtioSpec = VirtioSpec()


class HostdevType(enum.Enum):
    """What of the host is handed to the guest."""

    PCI = "pci"
    USB = "usb"
    MDEV = "mdev"
    SCSI = "scsi"
    VHOST_SCSI = "vhost-scsi"


@attrs.frozen(kw_only=True)
class HostdevSpec:
    """`[[vm.NAME.hostdev]]`: a device of the host, given to the guest alone.

    `host` is a PCI address (`0000:06:12.5`), a USB one (`bus.device`), an mdev's UUID, a SCSI
    device or the WWN of a vhost-scsi target; a USB device may be named by `vendor` and `product`
    instead. `url` is an iSCSI unit that the guest gets as a SCSI device. `failover_pair` is the
    number of the `nic` that this card stands in for.
    """

    type: HostdevType = HostdevType.PCI
    host: str | None = None
    url: str | None = None
    vendor: int | None = None
    product: int | None = None
    bootindex: int | None = None
    rom: bool | None = None
    rom_bar: bool | None = None
    rom_file: Path | None = None
    x_vga: bool | None = None
    display: bool | None = None
    ramfb: bool | None = None
    read_only: bool = False
    shareable: bool = False
    optional: bool = False
    guest_reset: str | None = None
    failover_pair: int | None = None
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class ShmemSpec:
    """`[[vm.NAME.shmem]]`: memory shared with other guests (ivshmem); `server` wakes them up."""

    name: str
    size: Size | None = None
    server: ChardevSpec | None = None
    vectors: int | None = None
    ioeventfd: bool | None = None
    master: bool | None = None
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class PstoreSpec:
    """`[vm.NAME.pstore]`: where a guest keeps its last words (ACPI ERST), a file of a size."""

    path: Path
    size: Size = Size(64 << 10)
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class UsbRedirSpec:
    """`[[vm.NAME.usb_redir]]`: a USB device that comes over a connection, such as SPICE's."""

    backend: ChardevSpec
    bootindex: int | None = None
    filter: str | None = None
    address: AddressSpec | None = None


class SmartcardMode(enum.Enum):
    """Where a smartcard comes from."""

    PASSTHROUGH = "ccid-card-passthru"
    EMULATED = "ccid-card-emulated"


@attrs.frozen(kw_only=True)
class SmartcardSpec:
    """`[[vm.NAME.smartcard]]`."""

    mode: SmartcardMode = SmartcardMode.PASSTHROUGH
    backend: ChardevSpec | None = None
    certificates: tuple[str, ...] = ()
    database: Path | None = None
    address: AddressSpec | None = None


@attrs.frozen(kw_only=True)
class CryptoSpec:
    """`[[vm.NAME.crypto]]`: virtio-crypto."""

    backend: str = "builtin"
    queues: int | None = None
    address: AddressSpec | None = None
    virtio: VirtioSpec = VirtioSpec()


@attrs.frozen(kw_only=True)
class GenidSpec:
    """`[vm.NAME.genid]`: the VM generation id, by default one of its own."""

    guid: UUID | None = None


@attrs.frozen(kw_only=True)
class FeaturesSpec:
    """`[vm.NAME.features]`: what the board has or lacks; None is QEMU's own choice.

    `options` are further properties of QEMU's `-machine`, `globals` are `DRIVER.PROPERTY = VALUE`.
    """

    acpi: bool | None = None
    hpet: bool | None = None
    smm: bool | None = None
    vmport: bool | None = None
    i8042: bool | None = None
    pit: bool | None = None
    pic: bool | None = None
    hmat: bool | None = None
    s3: bool | None = None
    s4: bool | None = None
    vmcoreinfo: bool = False
    kernel_irqchip: str | None = None
    tseg: Size | None = None
    dump_guest_core: bool | None = None
    mem_merge: bool | None = None
    cpu_pm: bool | None = None
    dirty_ring_size: int | None = None
    tb_size: Size | None = None
    options: Mapping[str, Value] = attrs.field(factory=dict)
    globals: Mapping[str, Value] = attrs.field(factory=dict)
