"""All other devices, and what no two of them may have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from uuid import UUID

import attrs

from qorch.check.chardev import find_chardev_problems
from qorch.check.drive import find_drive_problems, unknown_iothread
from qorch.check.nic import find_nic_problems
from qorch.check.screen import find_screen_problems
from qorch.errors import Problem
from qorch.spec import (
    ChardevSpec,
    ConsoleDevice,
    HostdevSpec,
    HostdevType,
    IommuModel,
    MachineFamily,
    MachineSpec,
    RngBackend,
    SmartcardMode,
    WatchdogModel,
)

_AGENT = "org.qemu.guest_agent.0"
_ERST_RECORD = 8 << 10  # the default of acpi-erst's record_size (hw/acpi/erst.c)
_REDIR_FILTER = re.compile(r"(-?\w+:){4}[01](\|(-?\w+:){4}[01])*\|?")
_PCI = re.compile(r"([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]")


_HOSTS = {
    HostdevType.PCI: 'host = "0000:BB:DD.F"; lspci -D lists them',
    HostdevType.MDEV: "host = its UUID; ls /sys/bus/mdev/devices lists them",
    HostdevType.SCSI: 'host = "/dev/sgN"; lsscsi -g lists them',
    HostdevType.VHOST_SCSI: 'host = its WWN, "naa.…"; targetcli ls /vhost lists them',
}


def find_device_problems(vm: MachineSpec) -> Iterator[Problem]:
    """What is wrong with the devices of a machine; paths start below it."""
    for index, disk in enumerate(vm.disks):
        yield from _below(f".disk[{index}]", find_drive_problems(vm, disk))
    for index, nic in enumerate(vm.nics):
        yield from _below(f".nic[{index}]", find_nic_problems(vm, nic))
    for index, controller in enumerate(vm.controllers):
        thread = controller.iothread
        if thread is not None and thread not in {item.id for item in vm.iothreads}:
            yield unknown_iothread(f".controller[{index}].iothread", thread, vm)
        if thread is not None and "virtio-scsi" not in controller.model:
            path = f".controller[{index}].iothread"
            yield Problem(path, f"{controller.model} has none", "virtio-scsi-pci has")
    yield from _boot_order(vm)
    yield from _ports(vm)
    yield from find_screen_problems(vm)
    yield from _services(vm)
    for index, hostdev in enumerate(vm.hostdevs):
        yield from _below(f".hostdev[{index}]", _hostdev(hostdev))
        pair = hostdev.failover_pair
        if pair is not None and not (0 <= pair < len(vm.nics) and vm.nics[pair].failover):
            hint = "nic[0] is the first; it needs failover = true"
            path = f".hostdev[{index}].failover_pair"
            yield Problem(path, f"there is no card {pair} to stand in for", hint)


def _below(path: str, problems: Iterable[Problem]) -> Iterator[Problem]:
    return (attrs.evolve(problem, path=f"{path}{problem.path}") for problem in problems)


def _boot_order(vm: MachineSpec) -> Iterator[Problem]:
    """The firmware's order has each place once (bootindex of QEMU)."""
    groups: dict[str, Iterable[object]] = {
        "disk": vm.disks,
        "nic": vm.nics,
        "hostdev": vm.hostdevs,
        "share": vm.shares,
        "usb_redir": vm.usb_redirs,
    }
    seen: dict[int, str] = {}
    for kind, devices in groups.items():
        for index, device in enumerate(devices):
            place, path = getattr(device, "bootindex", None), f"{kind}[{index}]"
            if place is None:
                continue
            if place < 0:
                yield Problem(f".{path}.bootindex", f"{place} is less than 0", "0 is the first")
            elif seen.setdefault(place, path) != path:
                yield Problem(
                    f".{path}.bootindex",
                    f"{place} is {seen[place]}'s already",
                    "each place is one device's",
                )


def _ports(vm: MachineSpec) -> Iterator[Problem]:
    chardevs: dict[str, ChardevSpec | None] = {
        **{f".serial[{n}].backend": item.backend for n, item in enumerate(vm.serials)},
        **{f".parallel[{n}].backend": item.backend for n, item in enumerate(vm.parallels)},
        **{f".channel[{n}].backend": item.backend for n, item in enumerate(vm.channels)},
        **{f".usb_redir[{n}].backend": item.backend for n, item in enumerate(vm.usb_redirs)},
        **{f".smartcard[{n}].backend": item.backend for n, item in enumerate(vm.smartcards)},
        **{f".shmem[{n}].server": item.server for n, item in enumerate(vm.shmems)},
        **{f".rng[{n}].egd": item.egd for n, item in enumerate(vm.rngs)},
    }
    for path, chardev in chardevs.items():
        if chardev is not None:
            yield from find_chardev_problems(vm, path, chardev)
    names = {_AGENT: "guest_agent"} if vm.guest_agent else {}
    for index, channel in enumerate(vm.channels):
        path = f"channel[{index}]"
        if channel.name and names.setdefault(channel.name, path) != path:
            message = f"{channel.name!r} is {names[channel.name]}'s already"
            yield Problem(f".{path}.name", message, "a guest finds ports by name")
    if vm.ready.console is not None and vm.console.device is ConsoleDevice.NONE:
        yield Problem(".ready.console", "the machine has no console", "see [vm.NAME.console]")


def _services(vm: MachineSpec) -> Iterator[Problem]:
    q35 = vm.machine.family is MachineFamily.Q35
    for index, rng in enumerate(vm.rngs):
        if (rng.egd is not None) != (rng.backend is RngBackend.EGD):
            message = "is missing" if rng.egd is None else f"{rng.backend.value} has none"
            yield Problem(f".rng[{index}].egd", message, "the connection to the daemon")
        if rng.max_bytes is not None and rng.max_bytes < 1:
            path, hint = f".rng[{index}].max_bytes", "leave it out for no limit"
            yield Problem(path, f"{rng.max_bytes} bytes are none", hint)
    for index, watchdog in enumerate(vm.watchdogs):
        path = f".watchdog[{index}]"
        if watchdog.model is WatchdogModel.ITCO and not q35:
            yield Problem(f"{path}.model", "itco is in the q35 chipset", 'model = "i6300esb"')
        if watchdog.action is not vm.watchdogs[0].action:
            yield Problem(
                f"{path}.action",
                "QEMU has one action for all watchdogs",
                "give all of them the same",
            )
    if vm.iommu is not None and not q35 and vm.iommu.model is not IommuModel.AMD:
        yield Problem(".iommu.model", f"{vm.iommu.model.value} needs q35", 'machine = "q35"')
    bits = vm.iommu.aw_bits if vm.iommu and vm.iommu.model is IommuModel.INTEL else None
    if bits not in (None, 39, 48):
        yield Problem(".iommu.aw_bits", f"{bits} is neither 39 nor 48", "48 reaches further")
    if vm.iommu is not None and vm.iommu.eim and vm.iommu.intremap is False:
        yield Problem(".iommu.eim", "goes with interrupt remapping", "intremap = true")
    yield from _cards(vm)
    yield from _pstore(vm)


def _pstore(vm: MachineSpec) -> Iterator[Problem]:
    if vm.pstore is None:
        return
    if vm.machine.family is MachineFamily.MICROVM:
        yield Problem(".pstore", "a microvm has no place for it", 'machine = "q35"')
    if vm.pstore.size < _ERST_RECORD or vm.pstore.size % _ERST_RECORD:
        yield Problem(
            ".pstore.size", f"{vm.pstore.size} is not a whole number of 8KiB records", "64KiB"
        )


def _cards(vm: MachineSpec) -> Iterator[Problem]:
    for index, redir in enumerate(vm.usb_redirs):
        if redir.filter is not None and not _REDIR_FILTER.fullmatch(redir.filter):
            hint = "CLASS:VENDOR:PRODUCT:VERSION:ALLOW, more of them after '|': \"-1:-1:-1:-1:0\""
            yield Problem(f".usb_redir[{index}].filter", f"{redir.filter!r} is no filter", hint)
    for index, shmem in enumerate(vm.shmems):
        if "/" in shmem.name or shmem.name in ("", ".", ".."):
            hint = "without '/': it is a file in /dev/shm"
            yield Problem(f".shmem[{index}].name", f"{shmem.name!r} is no name", hint)
        if shmem.size is not None and shmem.size & (shmem.size - 1):
            yield Problem(
                f".shmem[{index}].size",
                f"{shmem.size} is no power of two",
                "such as 1MiB, 2MiB, 4MiB",
            )
    for index, card in enumerate(vm.smartcards):
        if card.mode is SmartcardMode.PASSTHROUGH and card.backend is None:
            yield Problem(f".smartcard[{index}].backend", "is missing", "where the card comes from")
        if len(card.certificates) not in (0, 3):
            yield Problem(
                f".smartcard[{index}].certificates",
                "are not three",
                "the names of three in database, or none",
            )


def _hostdev(dev: HostdevSpec) -> Iterator[Problem]:
    host = dev.host or ""
    if dev.type is HostdevType.USB:
        yield from _usb(dev)
        return
    if dev.url is not None:
        if dev.type is not HostdevType.SCSI or not dev.url.startswith("iscsi"):
            yield Problem(".url", "is for SCSI devices, on iSCSI", 'type = "scsi"')
        return
    if dev.host is None:
        yield Problem(".host", "is missing", _HOSTS[dev.type])
    elif dev.type is HostdevType.PCI and not _PCI.fullmatch(host):
        yield Problem(".host", f"{host!r} is no PCI address", "lspci -D lists them")
    elif dev.type is HostdevType.MDEV and not _is_uuid(host):
        yield Problem(".host", f"{host!r} is no UUID", "ls /sys/bus/mdev/devices lists them")


def _usb(dev: HostdevSpec) -> Iterator[Problem]:
    pair = (dev.vendor is not None, dev.product is not None)
    if dev.host is None and not all(pair):
        hint = 'host = "BUS.DEVICE", or vendor = … and product = …'
        yield Problem("", "does not say which USB device", hint)
    for key in ("vendor", "product"):
        number = getattr(dev, key)
        if number is not None and not 0 <= number < 1 << 16:
            yield Problem(f".{key}", f"{number:#x} is not 0 to 0xffff", "lsusb lists them")
    if dev.host is not None and not re.fullmatch(r"\d+\.\d+", dev.host):
        yield Problem(".host", f"{dev.host!r} is not BUS.DEVICE", "lsusb lists them")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
