"""`<controller>` and `<hub>`: what devices are plugged into, also what libvirt adds unasked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qorch.importxml.address import Buses, address_of, usb_id
from qorch.importxml.node import Node
from qorch.importxml.values import virtio_of
from qorch.spec import AddressSpec, ControllerSpec
from qorch.units import Value

_USB = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
    "pci-ohci": "pci-ohci",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
_USB_PORTS = {"piix3-usb-uhci": 2, "piix4-usb-uhci": 2, "pci-ohci": 3, "usb-ehci": 6}
_FIRST_PORTS = {"ich9-uhci1": 0, "ich9-uhci2": 2, "ich9-uhci3": 4}
_HUB_PORTS = 8
_SCSI = {
    "auto": "lsi",
    "lsilogic": "lsi",
    "virtio-scsi": "virtio-scsi",
    "virtio-transitional": "virtio-scsi",
    "virtio-non-transitional": "virtio-scsi",
    "vmpvscsi": "pvscsi",
    "lsisas1068": "mptsas1068",
    "lsisas1078": "megasas",
    "am53c974": "am53c974",
    "dc390": "dc390",
}
_PCI = {
    "pci-bridge": "pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "pcie-root-port": "pcie-root-port",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
    "pci-expander-bus": "pxb",
    "pcie-expander-bus": "pxb-pcie",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
}
_BUS_MAKERS = ("piix3-usb-uhci", "qemu-xhci")  # what libvirt adds to a pc and to a q35


def read_controllers(devices: Node, buses: Buses) -> tuple[ControllerSpec, ...]:
    """All controllers that a document names or its devices need, but for the board's own."""
    found: list[ControllerSpec] = []
    usb = False
    _number(devices)
    for node in devices.all("controller"):
        kind = node.word("type")
        usb = usb or kind == "usb"
        read = _READERS.get(kind)
        if read is None:
            node.leave(f"controllers of type {kind!r} are not a PC's")
        elif (controller := read(node, buses)) is not None:
            found.append(controller)
    if not usb:
        found.append(ControllerSpec(model=_BUS_MAKERS[buses.q35], id="usb"))
    found += _missing_scsi(devices, found)
    found += _missing_sata(devices, buses, found)
    found += _missing_serial(devices, found)
    found += [_hub(node, buses) for node in devices.all("hub")]
    found += _missing_hubs(devices, found)
    return tuple(found)


def _number(devices: Node) -> None:
    """Give controllers without an index the first that is free, as libvirt does."""
    nodes = devices.all("controller")
    told = [node for node in nodes if node.get("index") not in (None, "-1")]
    taken = {("pci", 0)} | {(node.word("type"), node.number("index") or 0) for node in told}
    for node in nodes:
        kind, model = node.word("type"), node.word("model")
        if node in told or model in ("pci-root", "pcie-root", *_FIRST_PORTS):
            continue
        free = next(number for number in range(len(taken) + 1) if (kind, number) not in taken)
        taken.add((kind, free))
        node.attributes["index"] = str(free)


def _index(node: Node) -> int:
    return node.number("index") or 0


def _usb(node: Node, buses: Buses) -> ControllerSpec | None:
    model, index, ports = node.get("model"), _index(node), node.number("ports")
    if model == "none":
        return None
    if model is not None and model not in _USB:
        node.leave(f"USB controllers of model {model!r} are not a PC's")
        return None
    properties: dict[str, Value] = {}
    if ports is not None:
        properties = {"p2": ports, "p3": ports}
    master, start = node.find("master"), None
    if model in _FIRST_PORTS:
        start = master.number("startport")
        properties["masterbus"] = f"{usb_id(index)}.0"
        properties["firstport"] = _FIRST_PORTS[model] if start is None else start
    name = _USB[model] if model else _BUS_MAKERS[0]
    return ControllerSpec(
        model=name,
        id=None if "masterbus" in properties else usb_id(index),
        address=address_of(node, buses),
        properties=properties,
    )


def _scsi(node: Node, buses: Buses) -> ControllerSpec | None:
    model = node.get("model") or "auto"
    driver = node.find("driver")
    if model not in _SCSI:
        node.leave(f"SCSI controllers of model {model!r} are not a PC's")
        return None
    properties: dict[str, Value] = {}
    for key in ("cmd_per_lun", "max_sectors"):
        if (number := driver.number(key)) is not None:
            properties[key] = number
    thread = driver.number("iothread")
    queues = driver.number("queues")
    return ControllerSpec(
        model=_SCSI[model],
        id=f"scsi{_index(node)}",
        address=address_of(node, buses),
        iothread=None if thread is None else f"iothread{thread}",
        queues=queues,
        properties=properties,
        virtio=virtio_of(node, driver, model),
    )


def _sata(node: Node, buses: Buses) -> ControllerSpec | None:
    """A q35 has its first one on board."""
    node.get("model")
    index = _index(node)
    if buses.q35 and index == 0:
        node.skip_all("address")
        return None
    return ControllerSpec(model="ahci", id=f"sata{index}", address=address_of(node, buses))


def _ide(node: Node, buses: Buses) -> ControllerSpec | None:
    if buses.q35:
        node.leave("q35 has no IDE controller")
    elif _index(node) != 0:
        node.leave("there is one IDE controller, on board")
    node.get("model")
    node.skip_all("address")
    return None


def _virtio_serial(node: Node, buses: Buses) -> ControllerSpec | None:
    properties: dict[str, Value] = {}
    for key, name in (("ports", "max_ports"), ("vectors", "vectors")):
        if (number := node.number(key)) is not None:
            properties[name] = number
    return ControllerSpec(
        model="virtio-serial",
        id=f"virtio-serial{_index(node)}",
        address=address_of(node, buses),
        properties=properties,
        virtio=virtio_of(node, node.find("driver"), node.word("model")),
    )


def _ccid(node: Node, buses: Buses) -> ControllerSpec | None:
    return ControllerSpec(
        model="usb-ccid", id=f"ccid{_index(node)}", address=address_of(node, buses)
    )


def _on_board(node: Node, buses: Buses) -> ControllerSpec | None:
    del buses
    node.skip()
    return None


def _pci(node: Node, buses: Buses) -> ControllerSpec | None:
    model, index = node.get("model") or "", _index(node)
    if model in ("pci-root", "pcie-root"):
        for child in node.nodes:
            if child.tag not in ("pcihole64", "model", "target"):
                child.skip()
        return None
    if model not in _PCI:
        node.leave(f"PCI controllers of model {model!r} are not a PC's")
        return None
    return ControllerSpec(
        model=node.find("model").get("name") or _PCI[model],
        id=f"pci.{index}",
        address=address_of(node, buses),
        properties=_pci_properties(node, model),
    )


def _pci_properties(node: Node, model: str) -> dict[str, Value]:
    """`<target>` in QEMU's names."""
    target = node.find("target")
    properties: dict[str, Value] = {}
    for key, name in (
        *(("chassisNr", "chassis_nr"), ("chassis", "chassis"), ("port", "port")),
        ("busNr", "bus_nr"),
    ):
        if (number := target.number(key)) is not None:
            properties[name] = number
    if (reserve := target.number("memReserve")) is not None:
        properties["mem-reserve"] = reserve << 10
    if model == "pcie-switch-upstream-port":
        properties.pop("chassis", None)
    if (hotplug := target.on("hotplug")) is not None:
        properties["hotplug" if model.endswith("-port") else "shpc"] = hotplug
    cell = target.find("node").text_number()
    if cell is not None:
        properties["numa_node"] = cell
    return properties


_READERS = {
    "usb": _usb,
    "scsi": _scsi,
    "sata": _sata,
    "ide": _ide,
    "fdc": _on_board,
    "isa": _on_board,
    "virtio-serial": _virtio_serial,
    "ccid": _ccid,
    "pci": _pci,
}


def _hub(node: Node, buses: Buses) -> ControllerSpec:
    node.get("type")
    return ControllerSpec(model="usb-hub", address=address_of(node, buses))


def scsi_place(disk: Node) -> int:
    """The number of the SCSI controller that a disk is on, by its address or its name."""
    address = disk.find("address")
    if address.get("type") == "drive":
        return address.number("controller") or 0
    return disk_number(disk.find("target").word("dev")) // 7


def disk_number(name: str) -> int:
    """A disk's number by the letters of its name: 0 for `sda`, 26 for `sdaa`."""
    match = re.fullmatch(r"[a-z]*?(?:fd|hd|sd|vd|xvd|ubd)([a-z]+)\d*", name)
    number = 0
    for letter in match[1] if match else "a":
        number = number * 26 + ord(letter) - 96
    return number - 1


def _missing_scsi(devices: Node, found: list[ControllerSpec]) -> Iterator[ControllerSpec]:
    """A disk's controller that is not named is an LSI one."""
    disks = [node for node in devices.all("disk") if node.find("target").get("bus") == "scsi"]
    have = {controller.id for controller in found}
    places = [scsi_place(disk) for disk in disks]
    hostdevs = [node for node in devices.all("hostdev") if node.get("type") == "scsi"]
    places += [node.find("address").number("controller") or 0 for node in hostdevs]
    for number in range(min(max(places, default=-1) + 1, 64)):
        if f"scsi{number}" not in have:
            yield ControllerSpec(model="lsi", id=f"scsi{number}")


def _missing_sata(
    devices: Node, buses: Buses, found: list[ControllerSpec]
) -> Iterator[ControllerSpec]:
    have = {controller.id for controller in found}
    disks = [node for node in devices.all("disk") if node.find("target").get("bus") == "sata"]
    numbers = {sata_place(disk)[0] for disk in disks}
    for number in sorted(numbers):
        if f"sata{number}" not in have and not (buses.q35 and number == 0):
            yield ControllerSpec(model="ahci", id=f"sata{number}")


def _missing_serial(devices: Node, found: list[ControllerSpec]) -> Iterator[ControllerSpec]:
    """What addresses of ports name."""
    have = {controller.id for controller in found}
    ports = [*devices.all("channel"), *devices.all("console")]
    addresses = [node.find("address") for node in ports]
    numbers = {a.number("controller") for a in addresses if a.get("type") == "virtio-serial"}
    for number in sorted(number or 0 for number in numbers):
        if f"virtio-serial{number}" not in have and number:
            yield ControllerSpec(model="virtio-serial", id=f"virtio-serial{number}")


def sata_place(disk: Node) -> tuple[int, int]:
    """The controller and port of a SATA disk."""
    address = disk.find("address")
    if address.get("type") == "drive":
        return address.number("controller") or 0, address.number("unit") or 0
    return divmod(disk_number(disk.find("target").word("dev")), 6)


def _missing_hubs(devices: Node, found: list[ControllerSpec]) -> Iterator[ControllerSpec]:
    """Hubs that libvirt adds when there are more USB devices than a controller has ports."""
    first = next((c for c in found if c.id == "usb"), None)
    if first is None or any(c.model == "usb-hub" for c in found):
        return
    ports = first.properties.get("p2") or _USB_PORTS.get(first.model, _HUB_PORTS)
    free = ports if isinstance(ports, int) else _HUB_PORTS
    wanted = sum(1 for node in devices.nodes if _is_usb(node))
    while wanted > free > 0:
        free += _HUB_PORTS - 1
        yield ControllerSpec(model="usb-hub")


def _is_usb(node: Node) -> bool:  # noqa: PLR0911  one return per kind
    if node.find("address").get("port"):
        return False
    match node.tag:
        case "input":
            return node.get("bus") == "usb"
        case "disk":
            return node.find("target").get("bus") == "usb"
        case "hostdev":
            return node.get("type") == "usb"
        case "redirdev":
            return True
        case "sound":
            return node.get("model") == "usb"
        case "smartcard":
            return not node.find("address")
        case "interface":
            return node.find("model").get("type") == "usb-net"
        case "serial":
            return node.find("target").get("type") == "usb-serial"
    return False


def bridges_for(
    found: tuple[ControllerSpec, ...], addresses: list[AddressSpec], buses: Buses
) -> tuple[ControllerSpec, ...]:
    """The bridges that addresses name and the document does not, as libvirt adds them."""
    have = {controller.id for controller in found}
    wanted = {
        int(match[1])
        for address in addresses
        if address.bus and (match := re.fullmatch(r"pci\.(\d+)", address.bus))
    } - {0}
    model = "pcie-root-port" if buses.q35 else "pci-bridge"
    last = max(wanted, default=0)
    if last > 255:
        return ()
    return tuple(
        ControllerSpec(model=model, id=f"pci.{number}")
        for number in range(1, last + 1)
        if f"pci.{number}" not in have
    )
