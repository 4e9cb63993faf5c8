"""QEMU's controllers and bridges: what each is plugged into, and what can be plugged into it."""

from __future__ import annotations

import attrs

from qorch.plan.place.seat import Bus, Home, Slot


@attrs.frozen(kw_only=True)
class Model:
    """A controller; `driver` is its name in QEMU.

    `offers` is the bus behind it, `first` to `last` the slots, ports or units there. Behind a port
    sits one device, behind a bridge many. `chassis`, `queues` and `ports` are what QEMU calls its
    number among bridges, its queues and how many ports it has; `needs` are properties without which
    it cannot be.
    """

    driver: str
    on: Bus = Bus.PCI
    slot: Slot = Slot.BRIDGE
    home: Home = Home.SERVICE
    rank: int = 0
    fixed: tuple[int, int] | None = None
    virtio: bool = False
    offers: Bus = Bus.NONE
    behind: Slot = Slot.BRIDGE
    first: int = 0
    last: int = 0
    chassis: str | None = None
    queues: str | None = None
    ports: str | None = None
    needs: tuple[str, ...] = ()


def _port(driver: str, slot: Slot) -> Model:
    return Model(driver=driver, slot=slot, offers=Bus.PCI, behind=Slot.PORT, chassis="chassis")


def _usb(
    driver: str, ports: int, slot: Slot = Slot.BOARD, fixed: tuple[int, int] | None = None
) -> Model:
    home = Home.SERVICE if slot is Slot.PORT else Home.BOARD
    return Model(
        driver=driver,
        slot=slot,
        home=home,
        rank=4 if slot is Slot.PORT else 0,
        fixed=fixed,
        offers=Bus.USB,
        first=1,
        last=ports,
    )


def _hba(driver: str, targets: int, slot: Slot = Slot.BRIDGE) -> Model:
    return Model(driver=driver, slot=slot, home=Home.DISK, rank=8, offers=Bus.SCSI, last=targets)


_ICH9 = 0x1D

_MODELS = (
    _port("pcie-root-port", Slot.BOARD),
    _port("ioh3420", Slot.BOARD),
    _port("xio3130-downstream", Slot.PORT),
    Model(driver="x3130-upstream", slot=Slot.PORT, offers=Bus.PCI, behind=Slot.BOARD, last=31),
    Model(driver="pcie-pci-bridge", slot=Slot.PORT, rank=22, offers=Bus.PCI, first=1, last=31),
    Model(driver="i82801b11-bridge", slot=Slot.BOARD, offers=Bus.PCI, last=31),
    Model(driver="pci-bridge", offers=Bus.PCI, first=1, last=31, chassis="chassis_nr"),
    Model(driver="pxb", slot=Slot.BOARD, offers=Bus.PCI, last=31, needs=("bus_nr",)),
    Model(
        driver="pxb-pcie",
        slot=Slot.BOARD,
        offers=Bus.PCI,
        behind=Slot.BOARD,
        last=31,
        needs=("bus_nr",),
    ),
    _usb("qemu-xhci", 4, Slot.PORT),
    _usb("nec-usb-xhci", 4, Slot.PORT),
    _usb("usb-ehci", 6),
    _usb("ich9-usb-ehci1", 6, fixed=(_ICH9, 7)),
    _usb("ich9-usb-ehci2", 6),
    _usb("ich9-usb-uhci1", 2, fixed=(_ICH9, 0)),
    _usb("ich9-usb-uhci2", 2, fixed=(_ICH9, 1)),
    _usb("ich9-usb-uhci3", 2, fixed=(_ICH9, 2)),
    _usb("ich9-usb-uhci4", 2),
    _usb("ich9-usb-uhci5", 2),
    _usb("ich9-usb-uhci6", 2),
    _usb("piix3-usb-uhci", 2, fixed=(1, 2)),
    _usb("piix4-usb-uhci", 2),
    _usb("pci-ohci", 3),
    Model(driver="usb-hub", on=Bus.USB, offers=Bus.USB, first=1, last=8),
    Model(driver="usb-ccid", on=Bus.USB, offers=Bus.CCID),
    attrs.evolve(_hba("virtio-scsi-pci", 255, Slot.PORT), virtio=True, queues="num_queues"),
    _hba("lsi53c895a", 7),
    _hba("lsi53c810", 7),
    _hba("am53c974", 7),
    _hba("dc390", 7),
    _hba("megasas", 63),
    _hba("megasas-gen2", 63, Slot.PORT),
    _hba("mptsas1068", 7),
    _hba("pvscsi", 63),
    Model(driver="ich9-ahci", slot=Slot.BOARD, home=Home.DISK, rank=12, offers=Bus.SATA, last=5),
    Model(driver="piix3-ide", slot=Slot.BOARD, home=Home.DISK, offers=Bus.IDE, last=3),
    Model(driver="piix4-ide", slot=Slot.BOARD, home=Home.DISK, offers=Bus.IDE, last=3),
    Model(
        driver="virtio-serial-pci",
        slot=Slot.PORT,
        rank=2,
        virtio=True,
        offers=Bus.VIRTIO_SERIAL,
        last=30,
        ports="max_ports",
    ),
    Model(driver="isa-fdc", on=Bus.ISA, offers=Bus.FLOPPY, last=1),
)

_ALIASES = {  # QEMU's own, and what people and libvirt call them
    "ahci": "ich9-ahci",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "lsi": "lsi53c895a",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "pcie-expander-bus": "pxb-pcie",
    "pci-expander-bus": "pxb",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
    "virtio-scsi": "virtio-scsi-pci",
    "virtio-serial": "virtio-serial-pci",
}

MODELS = {model.driver: model for model in _MODELS}


def find_model(name: str) -> Model | None:
    """A controller by QEMU's name, with or without `-pci`, or by another name that it has."""
    return MODELS.get(_ALIASES.get(name, name))


def known_models() -> str:
    """All names, for a message."""
    return ", ".join(sorted(MODELS))
