"""`<hostdev>`: devices of the host."""

from __future__ import annotations

from typing import Any

from qorch.importxml.address import Buses, address_of, host_pci
from qorch.importxml.boot import BootOrder
from qorch.importxml.node import Node
from qorch.importxml.source import url_of
from qorch.importxml.values import path_of
from qorch.spec import AddressSpec, HostdevSpec, HostdevType


def read_hostdevs(devices: Node, buses: Buses, order: BootOrder) -> tuple[HostdevSpec, ...]:
    """Devices that are handed over; those for containers are named and left."""
    return tuple(
        hostdev
        for node in devices.all("hostdev")
        if (hostdev := _hostdev(node, devices, buses, order))
    )


def _hostdev(node: Node, devices: Node, buses: Buses, order: BootOrder) -> HostdevSpec | None:
    mode, kind = node.get("mode") or "subsystem", node.get("type")
    node.get("managed")  # qorch always takes and gives back a device
    readers = {"pci": _pci, "usb": _usb, "scsi": _scsi, "mdev": _mdev, "scsi_host": _vhost_scsi}
    if mode != "subsystem" or kind not in readers:
        node.leave(f"host devices of type {kind!r} have no counterpart")
        return None
    values = readers[kind](node)
    if values is None:
        return None
    rom = node.find("rom")
    values["failover_pair"] = pair_of(node, devices)
    return HostdevSpec(
        type=HostdevType.VHOST_SCSI if kind == "scsi_host" else HostdevType(kind),
        bootindex=order.take(node, None),
        rom=False if rom.on("enabled") is False else None,
        rom_bar=rom.on("bar"),
        rom_file=path_of(rom.get("file")),
        address=_address(node, buses),
        **values,
    )


def _address(node: Node, buses: Buses) -> AddressSpec | None:
    address = node.find("address")
    if address.get("type") != "drive":
        return address_of(node, buses)
    controller, channel, target, unit = (
        address.number(key) or 0 for key in ("controller", "bus", "target", "unit")
    )
    return AddressSpec(bus=f"scsi{controller}.0", channel=channel, target=target, unit=unit)


def _pci(node: Node) -> dict[str, Any]:
    source, driver = node.find("source"), node.find("driver")
    address = source.find("address")
    address.get("type")
    if driver.get("name") not in (None, "vfio"):
        driver.note("devices are handed over by vfio", "@name")
    for name in ("model", "iommufd"):
        if driver.get(name):
            driver.note("the kernel's own driver is taken", f"@{name}")
    if source.get("writeFiltering") is not None:
        source.note("has no counterpart", "@writeFiltering")
    return {"host": host_pci(address)}


def _usb(node: Node) -> dict[str, Any] | None:
    source = node.find("source")
    vendor, product = source.find("vendor").number("id"), source.find("product").number("id")
    address = source.find("address")
    address.get("type")
    bus, device, port = address.number("bus"), address.number("device"), address.get("port")
    values: dict[str, Any] = {
        "vendor": vendor,
        "product": product,
        "optional": source.get("startupPolicy") in ("optional", "requisite"),
        "guest_reset": source.get("guestReset"),
    }
    if bus is not None and device is not None:
        values["host"] = f"{bus}.{device}"
    elif bus is not None and port is not None:
        values["host"] = f"{bus}-{port}"
    elif vendor is None:
        node.leave("names no device")
        return None
    return values


def _scsi(node: Node) -> dict[str, Any] | None:
    source = node.find("source")
    adapter, address = source.find("adapter").get("name"), source.find("address")
    for name in ("sgio", "rawio"):
        if node.get(name) is not None:
            node.note("SCSI commands go through as the kernel allows", f"@{name}")
    if source.get("protocol") == "iscsi":
        return {"url": url_of(source)}
    if source.get("protocol") or adapter is None:
        node.leave("names no SCSI device")
        return None
    bus, target, unit = (address.number(key) or 0 for key in ("bus", "target", "unit"))
    host = adapter.removeprefix("scsi_host")
    return {
        "host": f"{host}:{bus}:{target}:{unit}",
        "read_only": bool(node.find("readonly")),
        "shareable": bool(node.find("shareable")),
    }


def _vhost_scsi(node: Node) -> dict[str, Any]:
    node.get("model")
    source = node.find("source")
    source.get("protocol")
    return {"host": source.get("wwpn")}


def pair_of(node: Node, devices: Node) -> int | None:
    """The number of the card that a device of the host stands in for."""
    teaming = node.find("teaming")
    teaming.get("type")
    name = teaming.get("persistent")
    cards = [card for card in devices.all("interface") if card.get("type") != "hostdev"]
    names = [card.find("alias").get("name") for card in cards]
    if name is not None and name not in names:
        teaming.note(f"there is no card {name!r}")
    return names.index(name) if name in names else None


def _mdev(node: Node) -> dict[str, Any] | None:
    model = node.get("model")
    if model not in (None, "vfio-pci"):
        node.leave(f"mediated devices of model {model!r} are not a PC's")
        return None
    return {
        "host": node.find("source", "address").get("uuid"),
        "display": bool(node.on("display")),
        "ramfb": node.on("ramfb"),
    }
