"""Where devices sit: libvirt's addresses in QEMU's names of buses."""

from __future__ import annotations

import attrs

from qorch.importxml.node import Node
from qorch.spec import AddressSpec, MachineType
from qorch.spec.machine import MachineFamily


@attrs.frozen
class Buses:
    """What the names of a machine's buses depend on."""

    machine: MachineType

    @property
    def q35(self) -> bool:
        """Whether it is PCI Express."""
        return self.machine.family is MachineFamily.Q35

    def pci(self, number: int) -> str:
        """A PCI bus by its number."""
        return ("pcie.0" if self.q35 else "pci.0") if number == 0 else f"pci.{number}"


def usb_id(index: int) -> str:
    """The id of a USB controller."""
    return "usb" if index == 0 else f"usb{index}"


def address_of(device: Node, buses: Buses) -> AddressSpec | None:
    """The address of a device that is not a disk; None leaves it to the plan."""
    found = _address_of(device, buses)
    index = device.find("acpi").number("index")
    return found if index is None else attrs.evolve(found or AddressSpec(), acpi_index=index)


def _address_of(device: Node, buses: Buses) -> AddressSpec | None:
    node = device.find("address")
    kind = node.get("type")
    match kind:
        case "pci":
            return _pci(node, buses)
        case "usb":
            plug = node.get("port")
            bus = f"{usb_id(node.number('bus') or 0)}.0"
            return AddressSpec(bus=bus, port=plug) if plug or bus != "usb.0" else None
        case "virtio-serial":
            bus = f"virtio-serial{node.number('controller') or 0}.0"
            node.get("bus")
            port = node.number("port")
            return AddressSpec(bus=bus, port=str(port) if port else None)
        case "ccid":
            slot = node.number("slot")
            return AddressSpec(bus=f"ccid{node.number('controller') or 0}.0", slot=slot)
        case "isa":
            return AddressSpec(iobase=node.number("iobase"), irq=node.number("irq"))
        case None | "unassigned" | "dimm" | "drive":
            pass
        case _:
            node.leave(f"addresses of type {kind!r} are not a PC's")
    return None


def _pci(node: Node, buses: Buses) -> AddressSpec | None:
    node.skip_all("zpci")
    if node.number("domain"):
        node.note("guests have one PCI domain, 0", "@domain")
    bus, slot, function = (node.number(key) for key in ("bus", "slot", "function"))
    multifunction = node.on("multifunction") or None  # off is QEMU's default
    if not (bus or slot or function):
        return None  # libvirt's way to say: any
    return AddressSpec(
        bus=buses.pci(bus or 0), slot=slot or 0, function=function or None,
        multifunction=multifunction,
    )  # fmt: skip


def host_pci(node: Node) -> str:
    """The address of a device of the host, as lspci -D writes it."""
    domain, bus, slot, function = (
        node.number(key) or 0 for key in ("domain", "bus", "slot", "function")
    )
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
