"""What a vm.toml says about a machine as a whole."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from uuid import UUID

import attrs

from qorch.errors import WrongValueError
from qorch.spec.cloud_init import CloudInitSpec
from qorch.spec.common import VhostUserSpec
from qorch.spec.cpu import CpuSpec, IothreadSpec
from qorch.spec.device import (
    CryptoSpec,
    FeaturesSpec,
    GenidSpec,
    HostdevSpec,
    IommuSpec,
    PanicSpec,
    PstoreSpec,
    RngSpec,
    ShareSpec,
    ShmemSpec,
    SmartcardSpec,
    UsbRedirSpec,
    VsockSpec,
    WatchdogSpec,
)
from qorch.spec.disk import ControllerSpec, DiskBus, DiskDevice, DiskSpec
from qorch.spec.display import (
    AudioSpec,
    DisplaySpec,
    InputSpec,
    SoundSpec,
    SpiceSpec,
    VideoSpec,
    VncSpec,
)
from qorch.spec.firmware import (
    BootSpec,
    ClockSpec,
    ConfidentialSpec,
    CredentialSpec,
    FirmwareSpec,
    FwCfgSpec,
    SmbiosSpec,
    TpmSpec,
)
from qorch.spec.memory import MemorySpec, NumaSpec
from qorch.spec.nic import NicSpec
from qorch.spec.port import ChannelSpec, ConsoleSpec, ParallelSpec, SerialSpec
from qorch.units import Duration


class MachineFamily(enum.Enum):
    """The boards that qorch knows how to place devices on."""

    PC = "pc"
    Q35 = "q35"
    MICROVM = "microvm"


class MachineType(str):
    """One of QEMU's machine types (`-machine help`): a family's newest, or a versioned one."""

    __slots__ = ()

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read a machine type; ValueError says what is wrong with it."""
        if isinstance(text, str) and re.fullmatch(
            r"pc|q35|microvm|pc-(i440fx|q35)-[A-Za-z0-9.]+|pc-\d[A-Za-z0-9.]*", text
        ):
            return cls(text)
        raise WrongValueError(
            f"{text!r} is no machine type",
            "use q35, pc, microvm, or a version such as pc-q35-7.2",
        )

    @property
    def family(self) -> MachineFamily:
        """The board it is a version of."""
        if self == "microvm":
            return MachineFamily.MICROVM
        return MachineFamily.Q35 if "q35" in self else MachineFamily.PC


class Accel(enum.Enum):
    """What runs the guest's instructions; `auto` takes KVM where it can run any guest."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class RebootAction(enum.Enum):
    """What a guest's reboot does (qapi RebootAction)."""

    RESET = "reset"
    SHUTDOWN = "shutdown"


class PanicAction(enum.Enum):
    """What QEMU does after a guest's panic (qapi PanicAction)."""

    PAUSE = "pause"
    SHUTDOWN = "shutdown"
    EXIT_FAILURE = "exit-failure"
    NONE = "none"


@attrs.frozen(kw_only=True)
class ReadySpec:
    """`[vm.NAME.ready]`: when the guest is ready.

    `console` is a regular expression for a line on the serial console, `tcp` a port that accepts a
    connection. With neither, a guest is ready when it answers a ping at its planned address, and
    one without an address when it runs.
    """

    console: str | None = None
    tcp: int | None = None


@attrs.frozen(kw_only=True)
class MachineSpec:
    """`[vm.NAME]`.

    `title` is what QEMU calls it (`-name guest=`), where the name is not good enough.
    `guest_agent` makes the channel of qemu-guest-agent. `qemu_args` are words for QEMU's command
    line that qorch does not look at, for what it has no key for; `emulator` is another QEMU.
    """

    machine: MachineType = MachineType("q35")
    accel: Accel = Accel.AUTO
    uuid: UUID | None = None
    title: str | None = None
    emulator: Path | None = None
    cpu: CpuSpec = CpuSpec()
    memory: MemorySpec = MemorySpec()
    numa: tuple[NumaSpec, ...] = ()
    iothreads: tuple[IothreadSpec, ...] = attrs.field(default=(), metadata={"toml": "iothread"})
    clock: ClockSpec = ClockSpec()
    features: FeaturesSpec = FeaturesSpec()
    firmware: FirmwareSpec = FirmwareSpec()
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    boot: BootSpec = BootSpec()
    smbios: SmbiosSpec = SmbiosSpec()
    credentials: tuple[CredentialSpec, ...] = attrs.field(
        default=(), metadata={"toml": "credential"}
    )
    fw_cfg: tuple[FwCfgSpec, ...] = ()
    genid: GenidSpec | None = None
    tpm: TpmSpec | None = None
    iommu: IommuSpec | None = None
    confidential: ConfidentialSpec | None = None
    disks: tuple[DiskSpec, ...] = attrs.field(default=(), metadata={"toml": "disk"})
    controllers: tuple[ControllerSpec, ...] = attrs.field(
        default=(), metadata={"toml": "controller"}
    )
    nics: tuple[NicSpec, ...] = attrs.field(default=(), metadata={"toml": "nic"})
    console: ConsoleSpec = ConsoleSpec()
    serials: tuple[SerialSpec, ...] = attrs.field(default=(), metadata={"toml": "serial"})
    parallels: tuple[ParallelSpec, ...] = attrs.field(default=(), metadata={"toml": "parallel"})
    channels: tuple[ChannelSpec, ...] = attrs.field(default=(), metadata={"toml": "channel"})
    guest_agent: bool = False
    vnc: VncSpec | None = None
    spice: SpiceSpec | None = None
    display: DisplaySpec | None = None
    videos: tuple[VideoSpec, ...] = attrs.field(default=(), metadata={"toml": "video"})
    audio: tuple[AudioSpec, ...] = ()
    sounds: tuple[SoundSpec, ...] = attrs.field(default=(), metadata={"toml": "sound"})
    inputs: tuple[InputSpec, ...] = attrs.field(default=(), metadata={"toml": "input"})
    shares: tuple[ShareSpec, ...] = attrs.field(default=(), metadata={"toml": "share"})
    rngs: tuple[RngSpec, ...] = attrs.field(default=(RngSpec(),), metadata={"toml": "rng"})
    watchdogs: tuple[WatchdogSpec, ...] = attrs.field(default=(), metadata={"toml": "watchdog"})
    panics: tuple[PanicSpec, ...] = attrs.field(default=(), metadata={"toml": "panic"})
    vsock: VsockSpec | None = None
    pstore: PstoreSpec | None = None
    hostdevs: tuple[HostdevSpec, ...] = attrs.field(default=(), metadata={"toml": "hostdev"})
    usb_redirs: tuple[UsbRedirSpec, ...] = attrs.field(default=(), metadata={"toml": "usb_redir"})
    smartcards: tuple[SmartcardSpec, ...] = attrs.field(default=(), metadata={"toml": "smartcard"})
    shmems: tuple[ShmemSpec, ...] = attrs.field(default=(), metadata={"toml": "shmem"})
    cryptos: tuple[CryptoSpec, ...] = attrs.field(default=(), metadata={"toml": "crypto"})
    cloud_init: CloudInitSpec | None = None
    on_reboot: RebootAction = RebootAction.RESET
    on_panic: PanicAction | None = None
    sandbox: bool = True
    qemu_args: tuple[str, ...] = ()
    ready: ReadySpec = ReadySpec()
    powerdown_timeout: Duration = Duration(60)

    def vhost_users(self) -> Iterator[VhostUserSpec]:
        """The processes that make devices of it and read its memory for that."""
        devices: tuple[NicSpec | DiskSpec | VideoSpec, ...]
        devices = (*self.nics, *self.disks, *self.videos)
        for device in devices:
            if device.vhost_user is not None:
                yield device.vhost_user

    def find_bus(self, disk: DiskSpec) -> DiskBus:
        """What a disk is plugged into; by default what every guest of today has a driver for."""
        if disk.bus is not None:
            return disk.bus
        if disk.device is DiskDevice.LUN:
            return DiskBus.SCSI
        if disk.device is DiskDevice.CDROM:
            families = {MachineFamily.Q35: DiskBus.SATA, MachineFamily.PC: DiskBus.IDE}
            return families.get(self.machine.family, DiskBus.SCSI)
        return DiskBus.VIRTIO
