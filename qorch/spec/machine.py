"""What a vm.toml says about a machine."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID

import attrs

from qorch.spec.cloud_init import CloudInitSpec
from qorch.spec.network import DEFAULT_NETWORK
from qorch.spec.storage import DEFAULT_POOL
from qorch.units import CpuSet, Duration, Mac, Name, Size
from qorch_storage.plan import ImageFormat


class MachineType(enum.Enum):
    """QEMU's machine types (`-machine help`)."""

    Q35 = "q35"
    MICROVM = "microvm"


class Accel(enum.Enum):
    """What runs the guest's instructions; `auto` takes KVM where it can run any guest."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class NicModel(enum.Enum):
    """QEMU's network cards; the bus's own form of it is chosen by the machine type."""

    VIRTIO_NET = "virtio-net"


@attrs.frozen(kw_only=True)
class CpuSpec:
    """`[vm.NAME.cpu]`, or `cpus = COUNT` for short."""

    count: int = 1
    model: str | None = None
    pin: tuple[CpuSet, ...] = ()


@attrs.frozen(kw_only=True)
class MemorySpec:
    """`[vm.NAME.memory]`, or `memory = SIZE` for short."""

    size: Size = Size(512 << 20)
    balloon: bool = True


@attrs.frozen(kw_only=True)
class DiskSpec:
    """`[[vm.NAME.disk]]`: an image as it is (`path`), a `volume`, or a new one in a pool."""

    path: Path | None = None
    volume: Name | None = None
    pool: Name = DEFAULT_POOL
    size: Size | None = None
    format: ImageFormat | None = None
    backing: Path | None = None
    backing_format: ImageFormat | None = None
    read_only: bool = False
    serial: str | None = None


@attrs.frozen(kw_only=True)
class NicSpec:
    """`[[vm.NAME.nic]]`: a network card on a network."""

    network: Name = DEFAULT_NETWORK
    model: NicModel = NicModel.VIRTIO_NET
    mac: Mac | None = None
    ip: IPv4Address | None = None


@attrs.frozen(kw_only=True)
class ConsoleSpec:
    """`[vm.NAME.console]`: the first serial port and how much of it is kept."""

    log_size: Size = Size(4 << 20)


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
    """`[vm.NAME]`."""

    machine: MachineType = MachineType.Q35
    accel: Accel = Accel.AUTO
    uuid: UUID | None = None
    cpu: CpuSpec = CpuSpec()
    memory: MemorySpec = MemorySpec()
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    rng: bool = True
    disks: tuple[DiskSpec, ...] = attrs.field(default=(), metadata={"toml": "disk"})
    nics: tuple[NicSpec, ...] = attrs.field(default=(), metadata={"toml": "nic"})
    console: ConsoleSpec = ConsoleSpec()
    cloud_init: CloudInitSpec | None = None
    ready: ReadySpec = ReadySpec()
    powerdown_timeout: Duration = Duration(60)
