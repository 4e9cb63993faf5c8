"""What serves the guest: random numbers, balloon, watchdog, vsock, shared memory and the like."""

from __future__ import annotations

import attrs

from qorch.switch.device import Device, DeviceModel, DeviceVirtio


@attrs.frozen(kw_only=True)
class DeviceVirtioRng(DeviceVirtio):
    """`-device virtio-rng-*`; at most `max_bytes` in `period` milliseconds."""

    rng: str
    max_bytes: int | None = None
    period: int | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-rng"


@attrs.frozen(kw_only=True)
class DeviceVirtioBalloon(DeviceVirtio):
    """`-device virtio-balloon-*`."""

    free_page_reporting: bool | None = None
    deflate_on_oom: bool | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-balloon"


@attrs.frozen(kw_only=True)
class DeviceVhostVsock(DeviceVirtio):
    """`-device vhost-vsock-*` on an inherited /dev/vhost-vsock, which has reserved the CID."""

    guest_cid: int
    vhostfd: str | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "vhost-vsock"


@attrs.frozen(kw_only=True)
class DeviceVirtioCrypto(DeviceVirtio):
    """`-device virtio-crypto-*`."""

    cryptodev: str

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-crypto"


@attrs.frozen(kw_only=True)
class DeviceWatchdog(DeviceModel):
    """`-device i6300esb` or `ib700`."""


@attrs.frozen(kw_only=True)
class DevicePanic(DeviceModel):
    """`-device pvpanic` or `pvpanic-pci`; the ISA one's port is `ioport`."""

    ioport: int | None = None


@attrs.frozen(kw_only=True)
class DeviceIvshmemPlain(Device):
    """`-device ivshmem-plain`: memory that other guests have, too."""

    memdev: str
    master: str | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "ivshmem-plain"


@attrs.frozen(kw_only=True)
class DeviceIvshmemDoorbell(Device):
    """`-device ivshmem-doorbell`: the same with interrupts, through a server."""

    chardev: str
    vectors: int | None = None
    ioeventfd: bool | None = None
    master: str | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "ivshmem-doorbell"


@attrs.frozen(kw_only=True)
class DeviceErst(Device):
    """`-device acpi-erst`: a store for a guest's last words, in the file of `memdev`."""

    memdev: str

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "acpi-erst"


@attrs.frozen(kw_only=True)
class DeviceIommu(DeviceModel):
    """`-device intel-iommu`, `amd-iommu` or `virtio-iommu-pci`, before what it translates."""

    intremap: str | None = None
    caching_mode: bool | None = None
    eim: str | None = None
    device_iotlb: bool | None = None
    aw_bits: int | None = None
    xtsup: bool | None = None
    pt: bool | None = None
    dma_translation: bool | None = None
