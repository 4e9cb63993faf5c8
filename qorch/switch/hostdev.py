"""Devices of the host, and devices that come over a connection."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.switch.device import Device, DeviceModel, DeviceVirtio


@attrs.frozen(kw_only=True)
class DeviceVfioPci(DeviceModel):
    """`-device vfio-pci`: a PCI device by its address, a mediated one by its place in sysfs."""

    host: str | None = None
    sysfsdev: Path | None = None
    bootindex: int | None = None
    rombar: int | None = None
    romfile: str | None = None
    x_vga: bool | None = None
    display: str | None = None
    ramfb: bool | None = None
    failover_pair: str | None = attrs.field(default=None, metadata={"qemu": "failover_pair_id"})


@attrs.frozen(kw_only=True)
class DeviceUsbHost(Device):
    """`-device usb-host`: by bus and address, or the first of a kind."""

    hostbus: int | None = None
    hostaddr: int | None = None
    hostport: str | None = None
    vendorid: int | None = None
    productid: int | None = None
    bootindex: int | None = None
    guest_reset: bool | None = None
    guest_resets_all: bool | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "usb-host"


@attrs.frozen(kw_only=True)
class DeviceScsiGeneric(Device):
    """`-device scsi-generic`: a SCSI device of the host, whatever it is."""

    drive: str
    bootindex: int | None = None
    share_rw: bool | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "scsi-generic"


@attrs.frozen(kw_only=True)
class DeviceVhostScsi(DeviceVirtio):
    """`-device vhost-scsi-*`: a target of the host's kernel, with all its units."""

    wwpn: str
    bootindex: int | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "vhost-scsi"


@attrs.frozen(kw_only=True)
class DeviceUsbRedir(Device):
    """`-device usb-redir`; `filter` tells which devices may come."""

    chardev: str
    bootindex: int | None = None
    filter: str | None = None

    @property
    def driver(self) -> str:
        """QEMU's name of it."""
        return "usb-redir"


@attrs.frozen(kw_only=True)
class DeviceCcidCard(DeviceModel):
    """`-device ccid-card-passthru` or `ccid-card-emulated`."""

    chardev: str | None = None
    backend: str | None = None
    cert1: str | None = None
    cert2: str | None = None
    cert3: str | None = None
    db: Path | None = None
