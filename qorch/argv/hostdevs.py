"""Devices of the host, USB devices and smartcards that come over a connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.argv.chardev import make_chardev
from qorch.argv.transport import find_transport
from qorch.handles import Handles
from qorch.option import Properties
from qorch.plan import HostdevPlan, MachinePlan, SmartcardPlan
from qorch.plan.hostdevs import full_address
from qorch.spec import HostdevType, SmartcardMode
from qorch.switch import Switch
from qorch.switch.blockdev import BlockdevProtocol
from qorch.switch.device import Device
from qorch.switch.hostdev import (
    DeviceCcidCard,
    DeviceScsiGeneric,
    DeviceUsbHost,
    DeviceUsbRedir,
    DeviceVfioPci,
    DeviceVhostScsi,
)
from qorch.url import parse_url

_MDEVS = Path("/sys/bus/mdev/devices")
_RESETS = {
    None: (None, None),
    "off": (False, None),
    "uninitialized": (True, False),
    "on": (True, True),
}


def make_hostdevs(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """All of them."""
    for dev in plan.hostdevs:
        if dev.spec.type is HostdevType.SCSI:
            yield from _scsi(dev)
        elif dev.spec.type is HostdevType.USB:
            yield _usb(dev)
        elif dev.spec.type is HostdevType.VHOST_SCSI:
            yield DeviceVhostScsi(
                transport=find_transport(plan),
                id=dev.id,
                place=dev.place,
                wwpn=dev.spec.host or "",
                bootindex=dev.spec.bootindex,
            )
        else:
            yield _vfio(dev)
    for redir in plan.usb_redirs:
        yield from make_chardev(redir.id, redir.spec.backend, handles)
        yield DeviceUsbRedir(
            id=f"{redir.id}-dev",
            place=redir.place,
            chardev=redir.id,
            bootindex=redir.spec.bootindex,
            filter=redir.spec.filter,
        )
    for card in plan.smartcards:
        yield from _card(card, handles)


def _vfio(dev: HostdevPlan) -> Device:
    spec = dev.spec
    mdev = spec.type is HostdevType.MDEV
    return DeviceVfioPci(
        model="vfio-pci-nohotplug" if spec.ramfb else "vfio-pci",
        id=dev.id,
        place=dev.place,
        host=None if mdev else full_address(spec.host or ""),
        sysfsdev=_MDEVS / (spec.host or "") if mdev else None,
        bootindex=spec.bootindex,
        rombar=None if spec.rom_bar is None else int(spec.rom_bar),
        romfile="" if spec.rom is False else str(spec.rom_file) if spec.rom_file else None,
        x_vga=spec.x_vga,
        display=None if spec.display is None else "on" if spec.display else "off",
        ramfb=spec.ramfb,
        failover_pair=None if spec.failover_pair is None else f"nic{spec.failover_pair}-dev",
    )


def _usb(dev: HostdevPlan) -> Device:
    spec = dev.spec
    bus, _, address = (spec.host or "").partition(".")
    reset, all_resets = _RESETS[spec.guest_reset]
    return DeviceUsbHost(
        id=dev.id,
        place=dev.place,
        hostbus=int(bus) if bus else None,
        hostaddr=int(address) if address else None,
        vendorid=spec.vendor,
        productid=spec.product,
        bootindex=spec.bootindex,
        guest_reset=reset,
        guest_resets_all=all_resets,
    )


def _scsi(dev: HostdevPlan) -> Iterator[Switch]:
    driver, more = "host_device", Properties(filename=str(dev.node))
    if dev.spec.url is not None:
        driver, more = parse_url(dev.spec.url)
    yield BlockdevProtocol(
        node_name=dev.id,
        driver=driver,
        read_only=True if dev.spec.read_only else None,
        auto_read_only=None if dev.spec.read_only else True,
        more=more,
    )
    yield DeviceScsiGeneric(
        id=f"{dev.id}-dev",
        place=dev.place,
        drive=dev.id,
        bootindex=dev.spec.bootindex,
        share_rw=dev.spec.shareable or None,
    )


def _card(card: SmartcardPlan, handles: Handles) -> Iterator[Switch]:
    spec = card.spec
    if spec.mode is SmartcardMode.PASSTHROUGH and spec.backend is not None:
        yield from make_chardev(card.id, spec.backend, handles)
        yield DeviceCcidCard(
            model=spec.mode.value, id=f"{card.id}-dev", place=card.place, chardev=card.id
        )
        return
    names: list[str | None] = [*spec.certificates, None, None, None]
    yield DeviceCcidCard(
        model=SmartcardMode.EMULATED.value,
        id=f"{card.id}-dev",
        place=card.place,
        backend="certificates" if spec.certificates else "nss-emulated",
        cert1=names[0],
        cert2=names[1],
        cert3=names[2],
        db=spec.database,
    )
