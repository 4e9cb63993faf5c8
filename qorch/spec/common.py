"""What several kinds of devices say in the same words."""

from __future__ import annotations

import enum
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class AddressSpec:
    """`address = { … }`: where a device sits; what is left out is decided by the plan.

    `bus` is the id of a controller, or one of its buses (`pci.0`, `scsi1.0`). `slot` and `function`
    are PCI's, `channel`, `target` and `unit` SCSI's, IDE's and a floppy's, `port` USB's
    (`"1.2"`) or a virtio serial port's number, `iobase` and `irq` ISA's. By `acpi_index` a guest
    names a PCI card: 3 is `eno3`.
    """

    bus: str | None = None
    slot: int | None = None
    function: int | None = None
    multifunction: bool | None = None
    channel: int | None = None
    target: int | None = None
    unit: int | None = None
    port: str | None = None
    iobase: int | None = None
    irq: int | None = None
    acpi_index: int | None = None


class VirtioForm(enum.Enum):
    """Which of virtio's interfaces a PCI device shows: 1.0, the legacy one before it, or both."""

    TRANSITIONAL = "transitional"
    NON_TRANSITIONAL = "non-transitional"
    LEGACY = "legacy"


@attrs.frozen(kw_only=True)
class VirtioSpec:
    """`virtio = { … }`: what all virtio devices have in common; QEMU's names."""

    form: VirtioForm | None = None
    iommu_platform: bool | None = None
    ats: bool | None = None
    packed: bool | None = None
    page_per_vq: bool | None = None
    ioeventfd: bool | None = None
    event_idx: bool | None = None


class ChardevType(enum.Enum):
    """QEMU's character back ends (`-chardev`)."""

    SOCKET = "socket"
    TCP = "tcp"
    UDP = "udp"
    PTY = "pty"
    FILE = "file"
    PIPE = "pipe"
    NULL = "null"
    STDIO = "stdio"
    VC = "vc"
    SERIAL = "serial"
    PARALLEL = "parallel"
    SPICEVMC = "spicevmc"
    SPICEPORT = "spiceport"
    VDAGENT = "qemu-vdagent"
    DBUS = "dbus"


@attrs.frozen(kw_only=True)
class ChardevSpec:
    """`backend = { … }`, or `backend = TYPE`: what a port is connected to on the host.

    A `socket` without a path is one of qorch's own, in the run directory. `path` is a Unix socket,
    file, pipe or device; `host` and `port` are TCP's and UDP's, `name` a spice channel's.
    """

    type: ChardevType = ChardevType.SOCKET
    path: Path | None = None
    server: bool = True
    host: str | None = None
    port: int | None = None
    local_host: str | None = None
    local_port: int | None = None
    telnet: bool = False
    tls: bool = False
    reconnect: int | None = None
    append: bool | None = None
    name: str | None = None
    log: Path | None = None
    log_append: bool | None = None
    clipboard: bool | None = None
    mouse: bool | None = None


@attrs.frozen(kw_only=True)
class VhostUserSpec:
    """`vhost_user = { … }`: a process of its own makes the device, in the guest's shared memory.

    A switch such as DPDK's does for a card, SPDK or qemu-storage-daemon for a disk.
    """

    backend: ChardevSpec
