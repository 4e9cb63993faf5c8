"""`<disk>`: what a disk is to the guest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from qorch.importxml.address import Buses, address_of
from qorch.importxml.boot import BootDevice, BootOrder
from qorch.importxml.controllers import disk_number, sata_place
from qorch.importxml.node import Node
from qorch.importxml.ports import vhost_user_of
from qorch.importxml.source import read_source
from qorch.importxml.values import choose, virtio_of
from qorch.spec import (
    AddressSpec,
    Aio,
    Cache,
    DetectZeroes,
    Discard,
    DiskBus,
    DiskDevice,
    DiskSpec,
    DiskThreadSpec,
    ErrorPolicy,
    GeometrySpec,
    ThrottleSpec,
)
from qorch.units import Size, Value

_BUSES = {
    "virtio": DiskBus.VIRTIO,
    "scsi": DiskBus.SCSI,
    "sata": DiskBus.SATA,
    "ide": DiskBus.IDE,
    "usb": DiskBus.USB,
    "fdc": DiskBus.FLOPPY,
    "nvme": DiskBus.NVME,
}
_PREFIXES = {"hd": "ide", "sd": "scsi", "vd": "virtio", "fd": "fdc", "xv": "xen"}
_DEVICES = {
    "disk": DiskDevice.DISK,
    "cdrom": DiskDevice.CDROM,
    "lun": DiskDevice.LUN,
    "floppy": DiskDevice.DISK,
}
_CACHES = {cache.value: cache for cache in Cache}
_AIOS = {aio.value: aio for aio in Aio}
_ERRORS = {
    "stop": ErrorPolicy.STOP,
    "report": ErrorPolicy.REPORT,
    "ignore": ErrorPolicy.IGNORE,
    "enospace": ErrorPolicy.ENOSPC,
}
_TUNES = {
    "bytes": "bps",
    "iops": "iops",
}


def read_disks(domain: Node, buses: Buses, order: BootOrder) -> tuple[DiskSpec, ...]:
    """The disks in libvirt's order, which is that of their names on each bus."""
    nodes: list[Node] = []
    for node in domain.find("devices").all("disk"):
        _insert(nodes, node)
    found = (_throttle(node) for node in domain.find("throttlegroups").all("throttlegroup"))
    groups = {group.group: group for group in found if group is not None}
    return tuple(disk for node in nodes if (disk := _disk(node, buses, order, groups)))


def bus_of(node: Node) -> str:
    """A disk's bus; without one, what its name and kind promise."""
    target = node.find("target")
    if target.get("bus"):
        return target.word("bus")
    if node.get("device") == "floppy":
        return "fdc"
    return _PREFIXES.get(target.word("dev")[:2], "ide")


def _insert(nodes: list[Node], node: Node) -> None:
    bus, number = bus_of(node), disk_number(node.find("target").word("dev"))
    place = None
    for index in range(len(nodes) - 1, -1, -1):
        if bus_of(nodes[index]) != bus:
            continue
        if disk_number(nodes[index].find("target").word("dev")) > number:
            place = index
        elif place is None:
            place = index + 1
    nodes.insert(len(nodes) if place is None else place, node)


def _disk(
    node: Node, buses: Buses, order: BootOrder, groups: dict[str | None, ThrottleSpec]
) -> DiskSpec | None:
    kind, bus = node.get("device") or "disk", bus_of(node)
    node.get("snapshot")  # whether `virsh snapshot-create` includes it
    node.skip_all("mirror", "backenddomain")
    if kind not in _DEVICES or bus not in _BUSES:
        node.leave(f"{kind} on {bus} has no counterpart")
        return None
    device = _DEVICES[kind]
    bootindex = order.take(node, _boot_kind(kind))
    if node.get("type") == "vhostuser":
        return _vhost_user(node, buses, bootindex)
    source = read_source(node, device)
    if source is None:
        return None
    driver = node.find("driver")
    removable = kind in ("cdrom", "floppy")
    if node.find("transient"):
        node.find("transient").leave("what the guest writes is kept")
    values: dict[str, Any] = {
        **source,
        **_driver(driver),
        **_blocks(node.find("blockio")),
        "device": device,
        "bus": _BUSES[bus],
        "bootindex": bootindex,
        "address": _address(node, bus, buses),
        "read_only": bool(node.find("readonly")) and kind != "cdrom",
        "shareable": bool(node.find("shareable")),
        "serial": node.text_of("serial"),
        "wwn": node.text_of("wwn"),
        "vendor": node.text_of("vendor"),
        "product": node.text_of("product"),
        "removable": node.find("target").on("removable"),
        "rotation_rate": node.find("target").number("rotation_rate"),
        "geometry": _geometry(node.find("geometry")),
        "throttle": _throttle(node.find("iotune")) or _filter(node, groups),
        "virtio": virtio_of(node, driver, node.word("model")),
    }
    if values["shareable"] and not values["read_only"] and driver.get("cache") is None:
        values["cache"] = Cache.NONE  # as libvirt does, whose caches would not agree
    _note_commands(node, kind)
    if removable:
        node.find("target").get("tray")
    if removable and not (values.get("path") or values.get("url")):
        values = {key: v for key, v in values.items() if key not in ("format", *_IMAGE_KEYS)}
    return DiskSpec(**{key: value for key, value in values.items() if value is not None})


def _vhost_user(node: Node, buses: Buses, bootindex: int | None) -> DiskSpec:
    """A disk that another process makes: how it reads its image is not libvirt's to say."""
    driver = node.find("driver")
    for name in ("name", "type"):
        driver.get(name)
    return DiskSpec(
        vhost_user=vhost_user_of(node.find("source")),
        bus=DiskBus.VIRTIO,
        bootindex=bootindex,
        queues=driver.number("queues"),
        queue_size=driver.number("queue_size"),
        virtio=virtio_of(node, driver, node.word("model")),
        address=address_of(node, buses),
    )


def _note_commands(node: Node, kind: str) -> None:
    for name in ("rawio", "sgio"):
        if kind == "lun" and node.get(name) is not None:
            node.note("SCSI commands go through as the kernel allows", f"@{name}")


_IMAGE_KEYS = ("cache", "aio", "discard", "detect_zeroes")


def _boot_kind(kind: str) -> BootDevice:
    if kind == "cdrom":
        return BootDevice.CDROM
    return BootDevice.FLOPPY if kind == "floppy" else BootDevice.DISK


def _driver(driver: Node) -> dict[str, Any]:
    """How the image is read and written: libvirt's defaults are said, where qorch has its own."""
    driver.get("name")
    errors = choose(driver, driver.get("error_policy"), _ERRORS, "error policy")
    reads = choose(driver, driver.get("rerror_policy"), _ERRORS, "error policy")
    if reads is None and errors is not ErrorPolicy.ENOSPC:
        reads = errors
    discard = Discard.UNMAP if driver.get("discard") == "unmap" else Discard.IGNORE
    zeroes = driver.get("detect_zeroes") or "off"
    if zeroes == "unmap" and discard is Discard.IGNORE:
        zeroes = "on"  # as libvirt does
    thread = driver.number("iothread")
    if driver.get("cache") == "default":
        driver.attributes.pop("cache")
    driver.leave_all("statistics", why="QEMU 7.2 has no such setting")
    return {
        "cache": choose(driver, driver.get("cache"), _CACHES, "cache mode") or Cache.WRITEBACK,
        "aio": choose(driver, driver.get("io"), _AIOS, "io") or Aio.THREADS,
        "discard": discard,
        "detect_zeroes": DetectZeroes(zeroes) if zeroes in ("off", "on", "unmap") else None,
        "copy_on_read": bool(driver.on("copy_on_read")),
        "werror": errors,
        "rerror": reads,
        "iothread": None if thread is None else f"iothread{thread}",
        "iothreads": tuple(_threads(driver.find("iothreads"))),
        "queues": driver.number("queues"),
        "queue_size": driver.number("queue_size"),
        "format_options": _format_options(driver),
    }


def _threads(node: Node) -> Iterator[DiskThreadSpec]:
    """The threads that share a disk's queues."""
    for thread in node.all("iothread"):
        queues = [queue.number("id") for queue in thread.all("queue")]
        yield DiskThreadSpec(
            id=f"iothread{thread.number('id')}",
            queues=tuple(number for number in queues if number is not None),
        )


def _format_options(driver: Node) -> dict[str, Value]:
    found: dict[str, Value] = {}
    if (unref := driver.on("discard_no_unref")) is not None:
        found["discard-no-unref"] = unref
    cache = driver.find("metadata_cache", "max_size")
    if (number := cache.text_number()) is not None:
        cache.get("unit")
        found["cache-size"] = number
    return found


def _blocks(node: Node) -> dict[str, Any]:
    sizes = {
        "logical_block_size": node.number("logical_block_size"),
        "physical_block_size": node.number("physical_block_size"),
        "discard_granularity": node.number("discard_granularity"),
    }
    return {key: Size(size) for key, size in sizes.items() if size}


def _geometry(node: Node) -> GeometrySpec | None:
    if not node:
        return None
    cylinders, heads, sectors = (node.number(key) or 0 for key in ("cyls", "heads", "secs"))
    return GeometrySpec(
        cylinders=cylinders, heads=heads, sectors=sectors, translation=node.get("trans")
    )


def _throttle(node: Node) -> ThrottleSpec | None:
    """Limits; `read_bytes_sec_max` is QEMU's `bps-read-max`."""
    if not node:
        return None
    names = {field.name for field in attrs.fields(ThrottleSpec)}
    values: dict[str, Any] = {"group": node.text_of("group_name")}
    for child in node.nodes:
        child.seen = True
        if child.tag == "group_name":
            continue
        way, _, rest = child.tag.partition("_")
        if child.tag == "size_iops_sec":
            name = "iops_size"
        else:
            what, _, suffix = rest.partition("_sec")
            name = f"{_TUNES.get(what, '?')}_{way}{suffix}"
        if name in names:
            values[name] = child.text_number()
        else:
            child.leave(f"there is no limit {child.tag!r}")
    return ThrottleSpec(**values)


def _filter(node: Node, groups: dict[str | None, ThrottleSpec]) -> ThrottleSpec | None:
    """The limits of the group that a disk is in."""
    filters = node.find("throttlefilters").all("throttlefilter")
    for other in filters[1:]:
        other.leave("a disk is in one group, the first")
    return groups.get(filters[0].get("group")) if filters else None


def _address(node: Node, bus: str, buses: Buses) -> AddressSpec | None:
    """Where it is: IDE and SATA places follow from names, or `hdc` would not stay `hdc`."""
    address = node.find("address")
    drive = address.get("type") == "drive"
    number = disk_number(node.find("target").word("dev"))
    channel, target, unit, controller = (
        (address.number(key) or 0) if drive else 0
        for key in ("bus", "target", "unit", "controller")
    )
    match bus:
        case "ide":
            if not drive:
                channel, unit = divmod(number, 2)
            return AddressSpec(bus=f"ide.{channel}", unit=unit)
        case "sata":
            controller, port = sata_place(node)
            on_board = buses.q35 and controller == 0
            return AddressSpec(bus=f"ide.{port}" if on_board else f"sata{controller}.{port}")
        case "fdc":
            return AddressSpec(unit=unit if drive else number)
        case "scsi" if drive:
            return AddressSpec(bus=f"scsi{controller}.0", channel=channel, target=target, unit=unit)
        case "scsi":
            return AddressSpec(bus=f"scsi{number // 7}.0", channel=0, target=0, unit=number % 7)
    return address_of(node, buses)
