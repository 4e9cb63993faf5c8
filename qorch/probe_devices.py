"""The host's devices as sysfs shows them, for those that guests shall have. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.facts import HostPci, HostUsb

_BRIDGES = "0x0604"  # PCI class: bridges may stay with the host
_FREE = (None, "vfio-pci", "pci-stub", "pcieport")


def find_host_pci(devices: Path = Path("/sys/bus/pci/devices")) -> dict[str, HostPci]:
    """All PCI devices by their addresses."""
    if not devices.is_dir():
        return {}
    return {entry.name: _read_pci(entry) for entry in sorted(devices.iterdir())}


def _read_pci(device: Path) -> HostPci:
    group = device / "iommu_group"
    return HostPci(
        driver=_name_of(device / "driver"),
        group=_name_of(group),
        busy=tuple(_find_busy(group / "devices", device.name)),
    )


def _find_busy(group: Path, name: str) -> Iterator[str]:
    """The devices of a group that the host's drivers keep."""
    for other in sorted(group.iterdir()) if group.is_dir() else ():
        kind = other / "class"
        is_bridge = kind.exists() and kind.read_text().startswith(_BRIDGES)
        if other.name != name and not is_bridge and _name_of(other / "driver") not in _FREE:
            yield other.name


def _name_of(link: Path) -> str | None:
    return link.resolve().name if link.exists() else None


def find_mdevs(devices: Path = Path("/sys/bus/mdev/devices")) -> frozenset[str]:
    """The UUIDs of mediated devices."""
    return frozenset(entry.name for entry in devices.iterdir()) if devices.is_dir() else frozenset()


def find_scsi_generic(devices: Path = Path("/sys/class/scsi_generic")) -> dict[str, Path]:
    """The generic SCSI devices by their addresses (HOST:CHANNEL:TARGET:LUN)."""
    found = {}
    for entry in sorted(devices.iterdir()) if devices.is_dir() else ():
        if address := _name_of(entry / "device"):
            found[address] = Path("/dev") / entry.name
    return found


def find_host_usb(devices: Path = Path("/sys/bus/usb/devices")) -> tuple[HostUsb, ...]:
    """All USB devices; interfaces of devices are none."""
    entries = sorted(devices.iterdir()) if devices.is_dir() else ()
    return tuple(_read_usb(entry) for entry in entries if (entry / "devnum").is_file())


def _read_usb(device: Path) -> HostUsb:
    product = device / "product"
    return HostUsb(
        bus=int((device / "busnum").read_text()),
        device=int((device / "devnum").read_text()),
        vendor=int((device / "idVendor").read_text(), 16),
        product=int((device / "idProduct").read_text(), 16),
        name=product.read_text().strip() if product.is_file() else None,
    )
