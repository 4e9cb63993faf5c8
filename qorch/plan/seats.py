"""What every device of a machine asks of its place; ids are the keys of vm.toml with a number."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from qorch.plan.place import Bus, Home, Seat, Slot
from qorch.spec import (
    ConsoleDevice,
    DiskBus,
    HostdevType,
    InputModel,
    IommuModel,
    MachineFamily,
    MachineSpec,
    MemoryDeviceModel,
    NicModel,
    PanicModel,
    SerialModel,
    SoundModel,
    VideoModel,
    VirtioForm,
    VirtioSpec,
    WatchdogModel,
)

_ICH9_SOUND = (0x1B, 0)
_EXPRESS_NICS = (NicModel.VIRTIO_NET, NicModel.E1000E, NicModel.VMXNET3, NicModel.IGB)
_DISK_BUSES = {
    DiskBus.VIRTIO: Bus.PCI,
    DiskBus.NVME: Bus.PCI,
    DiskBus.SCSI: Bus.SCSI,
    DiskBus.SATA: Bus.SATA,
    DiskBus.IDE: Bus.IDE,
    DiskBus.USB: Bus.USB,
    DiskBus.FLOPPY: Bus.FLOPPY,
}
_SERIAL_BUSES = {
    SerialModel.PCI: Bus.PCI,
    SerialModel.USB: Bus.USB,
    SerialModel.VIRTCONSOLE: Bus.VIRTIO_SERIAL,
}
_INPUT_BUSES = {"usb": Bus.USB, "virtio": Bus.PCI, "input": Bus.NONE}
_SOUND_BUSES = {
    SoundModel.SB16: Bus.ISA,
    SoundModel.PCSPK: Bus.NONE,
    SoundModel.USB_AUDIO: Bus.USB,
}
_HOSTDEV_BUSES = {HostdevType.USB: Bus.USB, HostdevType.SCSI: Bus.SCSI}


def find_seats(path: str, spec: MachineSpec) -> Iterator[Seat]:
    """One for each device that is plugged into something, the same from run to run."""
    yield from _nics(path, spec)
    yield from _disks(path, spec)
    yield from _ports(path, spec)
    yield from _screens(path, spec)
    yield from _services(path, spec)
    yield from _memory(path, spec)
    yield from _board(path, spec)
    yield from _guests_of_the_host(path, spec)


def _slot(virtio: VirtioSpec) -> Slot:
    """Legacy virtio wants I/O ports, which are scarce behind root ports."""
    old = (VirtioForm.LEGACY, VirtioForm.TRANSITIONAL)
    return Slot.BRIDGE if virtio.form in old else Slot.PORT


def _nics(path: str, spec: MachineSpec) -> Iterator[Seat]:
    for index, nic in enumerate(spec.nics):
        yield Seat(
            id=f"nic{index}",
            path=f"{path}.nic[{index}]",
            bus=Bus.USB if nic.model is NicModel.USB_NET else Bus.PCI,
            address=nic.address,
            slot=_slot(nic.virtio) if nic.model in _EXPRESS_NICS else Slot.BRIDGE,
            home=Home.NIC,
            rank=0 if nic.model is NicModel.USB_NET else index,
            virtio=nic.model is NicModel.VIRTIO_NET,
        )


def _disks(path: str, spec: MachineSpec) -> Iterator[Seat]:
    for index, disk in enumerate(spec.disks):
        kind = spec.find_bus(disk)
        bus = _DISK_BUSES[kind]
        yield Seat(
            id=f"disk{index}",
            path=f"{path}.disk[{index}]",
            bus=bus,
            address=disk.address,
            slot=_slot(disk.virtio),
            home=Home.DISK,
            rank=index if bus is Bus.PCI else 0,
            virtio=kind is DiskBus.VIRTIO,
        )
    if spec.cloud_init is not None:
        yield Seat(id="seed", path=f"{path}.cloud_init", rank=7, virtio=True)


def _ports(path: str, spec: MachineSpec) -> Iterator[Seat]:
    """Port 0 of virtio-serial is a console's (virtio 1.2, 5.3)."""
    if spec.console.device is ConsoleDevice.VIRTCONSOLE:
        yield Seat(id="console", path=f"{path}.console", bus=Bus.VIRTIO_SERIAL)
    for index, serial in enumerate(spec.serials):
        yield Seat(
            id=f"serial{index}",
            path=f"{path}.serial[{index}]",
            bus=_SERIAL_BUSES.get(serial.model, Bus.ISA),
            address=serial.address,
            slot=Slot.BOARD,
            home=Home.BOARD,
        )
    if spec.guest_agent:
        yield Seat(id="agent", path=f"{path}.guest_agent", bus=Bus.VIRTIO_SERIAL, rank=1)
    for index, channel in enumerate(spec.channels):
        yield Seat(
            id=f"channel{index}",
            path=f"{path}.channel[{index}]",
            bus=Bus.VIRTIO_SERIAL,
            address=channel.address,
            rank=1,
        )


def _screens(path: str, spec: MachineSpec) -> Iterator[Seat]:
    vga = (1, 0) if spec.machine.family is MachineFamily.Q35 else (2, 0)
    for index, video in enumerate(spec.videos):
        if video.model is not VideoModel.RAMFB:
            yield Seat(
                id=f"video{index}",
                path=f"{path}.video[{index}]",
                address=video.address,
                slot=Slot.BOARD,
                home=Home.BOARD,
                fixed=None if index else vga,
            )
    for index, entry in enumerate(spec.inputs):
        bus = _INPUT_BUSES[entry.model.value.partition("-")[0]]
        yield Seat(
            id=f"input{index}",
            path=f"{path}.input[{index}]",
            bus=bus,
            address=entry.address,
            rank=16 + index if bus is Bus.PCI else 0,
            virtio=entry.model is not InputModel.EVDEV,
        )


def _services(path: str, spec: MachineSpec) -> Iterator[Seat]:
    def service(id_: str, key: str, device: object, rank: int) -> Seat:
        return Seat(
            id=id_,
            path=f"{path}.{key}",
            address=getattr(device, "address", None),
            slot=_slot(getattr(device, "virtio", VirtioSpec())),
            rank=rank,
            virtio=True,
        )

    for index, rng in enumerate(spec.rngs):
        yield service(f"rng{index}", f"rng[{index}]", rng, index and 23 + index)
    if spec.memory.balloon.enabled:
        yield service("balloon0", "memory.balloon", spec.memory.balloon, 1)
    if spec.vsock is not None:
        yield service("vsock0", "vsock", spec.vsock, 3)
    for index, crypto in enumerate(spec.cryptos):
        yield service(f"crypto{index}", f"crypto[{index}]", crypto, 5 if not index else 23)
    for index, share in enumerate(spec.shares):
        yield service(f"share{index}", f"share[{index}]", share, 8 + index)


def _memory(path: str, spec: MachineSpec) -> Iterator[Seat]:
    virtio = (MemoryDeviceModel.VIRTIO_MEM, MemoryDeviceModel.VIRTIO_PMEM)
    for index, device in enumerate(spec.memory.devices):
        if device.model in virtio:
            where = f"{path}.memory.device[{index}]"
            yield Seat(id=f"memory{index}", path=where, address=device.address, rank=6, virtio=True)


def _board(path: str, spec: MachineSpec) -> Iterator[Seat]:
    """What nobody unplugs."""

    def part(id_: str, key: str, device: object, bus: Bus = Bus.PCI) -> Seat:
        return Seat(
            id=id_,
            path=f"{path}.{key}",
            bus=bus,
            address=getattr(device, "address", None),
            slot=Slot.BOARD,
            home=Home.BOARD,
        )

    q35 = spec.machine.family is MachineFamily.Q35
    for index, sound in enumerate(spec.sounds):
        bus = _SOUND_BUSES.get(sound.model, Bus.PCI)
        seat = part(f"sound{index}", f"sound[{index}]", sound, bus)
        yield attrs.evolve(seat, fixed=_ICH9_SOUND if q35 and bus is Bus.PCI else None)
    for index, watchdog in enumerate(spec.watchdogs):
        if watchdog.model is WatchdogModel.I6300ESB:
            yield part(f"watchdog{index}", f"watchdog[{index}]", watchdog)
    for index, panic in enumerate(spec.panics):
        if panic.model is PanicModel.PCI:
            yield part(f"panic{index}", f"panic[{index}]", panic)
    for index, shmem in enumerate(spec.shmems):
        yield part(f"shmem{index}", f"shmem[{index}]", shmem)
    if spec.pstore is not None:
        yield part("pstore0", "pstore", spec.pstore)
    if spec.iommu is not None and spec.iommu.model is IommuModel.VIRTIO:
        yield part("iommu0", "iommu", spec.iommu)


def _guests_of_the_host(path: str, spec: MachineSpec) -> Iterator[Seat]:
    for index, hostdev in enumerate(spec.hostdevs):
        bus = _HOSTDEV_BUSES.get(hostdev.type, Bus.PCI)
        yield Seat(
            id=f"hostdev{index}",
            path=f"{path}.hostdev[{index}]",
            bus=bus,
            address=hostdev.address,
            home=Home.HOSTDEV,
            rank=index if bus is Bus.PCI else 0,
        )
    for index, redir in enumerate(spec.usb_redirs):
        where = f"{path}.usb_redir[{index}]"
        yield Seat(id=f"usb_redir{index}", path=where, bus=Bus.USB, address=redir.address)
    for index, card in enumerate(spec.smartcards):
        where = f"{path}.smartcard[{index}]"
        yield Seat(id=f"smartcard{index}", path=where, bus=Bus.CCID, address=card.address)
