"""A plan as frozen values: every id, address, name and path decided, nothing made yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID

import attrs

from qorch.place import Place
from qorch.plan.controllers import ControllerPlan
from qorch.plan.cpu import CpuPlan
from qorch.plan.firmware import FirmwarePlan
from qorch.plan.hostdevs import HostdevPlan, SmartcardPlan, UsbRedirPlan
from qorch.plan.memory import MemoryPlan
from qorch.plan.note import Note
from qorch.plan.ports import AGENT, ChannelPlan, ConsolePlan, ParallelPlan, SerialPlan
from qorch.plan.screens import InputPlan, SoundPlan, SpicePlan, VideoPlan, VncPlan
from qorch.plan.services import (
    BalloonPlan,
    CryptoPlan,
    IommuPlan,
    PanicPlan,
    PstorePlan,
    RngPlan,
    ShmemPlan,
    VsockPlan,
    WatchdogPlan,
)
from qorch.plan.shares import SharePlan
from qorch.plan.tpm import TpmPlan
from qorch.spec import (
    Accel,
    Aio,
    AudioSpec,
    BootSpec,
    Cache,
    ChardevSpec,
    ClockSpec,
    ConfidentialSpec,
    CredentialSpec,
    DiskBus,
    DiskSpec,
    DisplaySpec,
    FeaturesSpec,
    FwCfgSpec,
    IothreadSpec,
    MachineType,
    NicSpec,
    PanicAction,
    ReadySpec,
    RebootAction,
    SmbiosSpec,
)
from qorch.units import Duration, Mac, Name, Size
from qorch_net.plan import Lease, NetworkPlan, TapPlan
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, VolumePlan


@attrs.frozen(kw_only=True)
class RemoteImage:
    """An image elsewhere, or one of this host (`path`) below such a one."""

    url: str | None = None
    path: Path | None = None
    format: ImageFormat


@attrs.frozen(kw_only=True)
class DiskPlan:
    """A disk: its images from the top down, and the volume to make first if it is one of ours.

    `chain` are files and devices of this host, `remote` what is below them, or the disk itself. An
    empty drive has neither. `block_devices` are those of the chain that are no files.
    """

    id: str
    spec: DiskSpec = DiskSpec()
    bus: DiskBus = DiskBus.VIRTIO
    chain: tuple[Backing, ...]
    remote: tuple[RemoteImage, ...] = ()
    block_devices: tuple[Path, ...] = ()
    read_only: bool = False
    serial: str | None = None
    bootindex: int | None = None
    cache: Cache | None = None
    aio: Aio | None = None
    place: Place = Place()
    pool: PoolPlan | None = None
    volume: VolumePlan | None = None
    kept: bool = False  # its images are where snapshots or a move have put them: none is made

    @property
    def path(self) -> Path:
        """The image that the guest writes to; IndexError for what is elsewhere or empty."""
        return self.chain[0].path

    @property
    def is_empty(self) -> bool:
        """Whether it is a drive without a medium."""
        return not (self.chain or self.remote or self.spec.vhost_user)


@attrs.frozen(kw_only=True)
class NicPlan:
    """A network card: what the guest sees, and the tap behind it if it is on one.

    `network` is None for cards on no network of ours; `program` is the passt behind it, if one is.
    """

    id: str
    spec: NicSpec = NicSpec()
    network: Name | None
    mac: Mac
    ip: IPv4Address | None = None
    tap: TapPlan | None = None
    program: Path | None = None
    mtu: int | None = None
    place: Place = Place()

    @property
    def queues(self) -> int:
        """How many pairs of queues it has."""
        return self.spec.queues or 1


@attrs.frozen(kw_only=True)
class SeedPlan:
    """A cloud-init seed image and what is in it."""

    path: Path
    files: Mapping[str, str]
    place: Place = Place()


@attrs.frozen(kw_only=True)
class MachinePlan:
    """A machine, down to the last identifier."""

    name: Name
    owner: str
    uuid: UUID
    machine: MachineType
    accel: Accel
    title: str | None = None
    emulator: Path | None = None
    cpu: CpuPlan
    memory: MemoryPlan
    iothreads: tuple[IothreadSpec, ...] = ()
    features: FeaturesSpec = FeaturesSpec()
    clock: ClockSpec = ClockSpec()
    boot: BootSpec = BootSpec()
    smbios: SmbiosSpec = SmbiosSpec()
    credentials: tuple[CredentialSpec, ...] = ()
    fw_cfg: tuple[FwCfgSpec, ...] = ()
    genid: UUID | None = None
    firmware: FirmwarePlan = attrs.field(factory=FirmwarePlan)
    tpm: TpmPlan | None = None
    on_reboot: RebootAction = RebootAction.RESET
    on_panic: PanicAction | None = None
    sandbox: bool = True
    qemu_args: tuple[str, ...] = ()
    controllers: tuple[ControllerPlan, ...] = ()
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    disks: tuple[DiskPlan, ...] = ()
    nics: tuple[NicPlan, ...] = ()
    seed: SeedPlan | None = None
    shares: tuple[SharePlan, ...] = ()
    console: ConsolePlan
    serials: tuple[SerialPlan, ...] = ()
    parallels: tuple[ParallelPlan, ...] = ()
    channels: tuple[ChannelPlan, ...] = ()
    rngs: tuple[RngPlan, ...] = ()
    balloon: BalloonPlan | None = None
    watchdogs: tuple[WatchdogPlan, ...] = ()
    panics: tuple[PanicPlan, ...] = ()
    vsock: VsockPlan | None = None
    pstore: PstorePlan | None = None
    iommu: IommuPlan | None = None
    confidential: ConfidentialSpec | None = None
    shmems: tuple[ShmemPlan, ...] = ()
    cryptos: tuple[CryptoPlan, ...] = ()
    vnc: VncPlan | None = None
    spice: SpicePlan | None = None
    display: DisplaySpec | None = None
    videos: tuple[VideoPlan, ...] = ()
    audio: tuple[AudioSpec, ...] = ()
    sounds: tuple[SoundPlan, ...] = ()
    inputs: tuple[InputPlan, ...] = ()
    hostdevs: tuple[HostdevPlan, ...] = ()
    usb_redirs: tuple[UsbRedirPlan, ...] = ()
    smartcards: tuple[SmartcardPlan, ...] = ()
    ready: ReadySpec
    powerdown_timeout: Duration

    @property
    def mark(self) -> str:
        """What QEMU carries in its environment, so that it is found without a record."""
        return f"{self.owner}:vm/{self.name}"

    @property
    def cpus(self) -> int:
        """How many vCPUs it starts with."""
        return self.cpu.count

    @property
    def guest_agent(self) -> bool:
        """Whether it has a channel for the guest agent."""
        return any(channel.id == AGENT for channel in self.channels)

    @property
    def log_size(self) -> Size:
        """How much of the console's log is kept."""
        return self.console.spec.log_size

    def chardevs(self) -> Iterator[tuple[str, ChardevSpec]]:
        """Every character back end by its id, but for the console's and the monitors'."""
        yield from ((serial.id, serial.spec.backend) for serial in self.serials)
        yield from ((parallel.id, parallel.spec.backend) for parallel in self.parallels)
        yield from ((channel.id, channel.spec.backend) for channel in self.channels)
        for rng in self.rngs:
            if rng.spec.egd is not None:
                yield f"{rng.id}-egd", rng.spec.egd
        yield from ((redir.id, redir.spec.backend) for redir in self.usb_redirs)
        for card in self.smartcards:
            if card.spec.backend is not None:
                yield card.id, card.spec.backend
        devices: tuple[NicPlan | DiskPlan | VideoPlan, ...]
        devices = (*self.nics, *self.disks, *self.videos)
        for device in devices:
            if device.spec.vhost_user is not None:
                yield device.id, device.spec.vhost_user.backend
        for shmem in self.shmems:
            if shmem.spec.server is not None:
                yield shmem.id, shmem.spec.server

    def places(self) -> dict[str, Place]:
        """Where each device sits, by its id."""
        found = {"console": self.console.place}
        found |= {device.id: device.place for device in self.memory.devices}
        if self.seed is not None:
            found["seed"] = self.seed.place
        for value in attrs.asdict(self, recurse=False).values():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(place := getattr(part, "place", None), Place):
                    found[getattr(part, "id", "")] = place
        found.pop("", None)
        return found

    @property
    def taps(self) -> tuple[TapPlan, ...]:
        """The taps of its cards."""
        return tuple(nic.tap for nic in self.nics if nic.tap is not None)

    @property
    def ips(self) -> tuple[IPv4Address, ...]:
        """The addresses it will get."""
        return tuple(nic.ip for nic in self.nics if nic.ip is not None)


@attrs.frozen(kw_only=True)
class Plan:
    """What a document becomes on this host."""

    qemu: Path
    machines: Mapping[Name, MachinePlan]
    networks: Mapping[Name, NetworkPlan]
    volumes: Mapping[Name, tuple[PoolPlan, VolumePlan]]
    pools: Mapping[Name, PoolPlan] = attrs.field(factory=dict)
    notes: tuple[Note, ...] = ()


@attrs.frozen(kw_only=True)
class DiskImages:
    """A disk whose data is not in `origin`, the image of its description, but in `chain[0]`.

    Snapshots and moves do that. The chain is from the top down.
    """

    disk: str
    origin: Path
    chain: tuple[Backing, ...]


@attrs.frozen(kw_only=True)
class Defined:
    """The machines, networks and pools that this state directory has already, by name.

    `images` tells where the data of disks is, if not where their descriptions say; it outlives the
    machines.
    """

    machines: Mapping[Name, MachinePlan] = attrs.field(factory=dict)
    networks: Mapping[Name, NetworkPlan] = attrs.field(factory=dict)
    pools: Mapping[Name, PoolPlan] = attrs.field(factory=dict)
    images: Mapping[Name, tuple[DiskImages, ...]] = attrs.field(factory=dict)


def add_leases(network: NetworkPlan, machines: Mapping[Name, MachinePlan]) -> NetworkPlan:
    """The network with a lease for each card that these machines have on it, and their guards.

    A machine's second card on a network is known as `NAME-nic1` there: a name is one address.
    """
    leases = [
        Lease(mac=nic.mac, ip=nic.ip, name=name)
        for machine in machines.values()
        for nic, name in zip(
            (nic for nic in machine.nics if nic.network == network.name),
            _lease_names(machine, network.name),
            strict=False,
        )
        if nic.ip is not None
    ]
    guards = [
        nic.tap.guard
        for machine in machines.values()
        for nic in machine.nics
        if nic.network == network.name and nic.tap is not None and nic.tap.guard is not None
    ]
    return attrs.evolve(
        network,
        leases=tuple(sorted(leases, key=lambda lease: int(lease.ip or 0))),
        guards=tuple(sorted(guards, key=lambda guard: guard.tap)),
    )


def _lease_names(machine: MachinePlan, network: str) -> list[str]:
    ids = [nic.id for nic in machine.nics if nic.network == network]
    return [machine.name if index == 0 else f"{machine.name}-{id}" for index, id in enumerate(ids)]  # noqa: A001
