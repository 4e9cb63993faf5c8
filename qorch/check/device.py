"""All other devices, and what no two of them may have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from uuid import UUID

import attrs

from qorch.check.chardev import find_chardev_problems
from qorch.check.drive import find_drive_problems, unknown_iothread
from qorch.check.nic import find_nic_problems
from qorch.errors import Problem
from qorch.spec import (
    ChardevSpec,
    ConsoleDevice,
    HostdevSpec,
    HostdevType,
    InputModel,
    IommuModel,
    MachineFamily,
    MachineSpec,
    RngBackend,
    SmartcardMode,
    SoundModel,
    VideoModel,
    VncSpec,
    WatchdogModel,
)

_AGENT = "org.qemu.guest_agent.0"
_SEVERAL_HEADS = (VideoModel.QXL, VideoModel.VIRTIO)
_ONLY_FIRST = (VideoModel.CIRRUS, VideoModel.VMWARE, VideoModel.RAMFB)
_EVDEV = (InputModel.EVDEV, InputModel.VIRTIO_INPUT_HOST)
_ERST_RECORD = 8 << 10  # the default of acpi-erst's record_size (hw/acpi/erst.c)
_FIRST_VNC_PORT = 5900
_PCI = re.compile(r"([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]")


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
    yield from _screens(vm)
    yield from _sounds(vm)
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
                yield Problem(f".{path}.bootindex", f"{place} is less than 0")
            elif seen.setdefault(place, path) != path:
                yield Problem(f".{path}.bootindex", f"{place} is {seen[place]}'s already")


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


def _screens(vm: MachineSpec) -> Iterator[Problem]:
    if vm.vnc is not None:
        yield from _vnc(vm.vnc)
    for index, video in enumerate(vm.videos):
        path, model = f".video[{index}]", video.model.value
        if index and video.model in _ONLY_FIRST:
            yield Problem(f"{path}.model", f"{model} can only be the first card")
        if video.heads is not None and video.heads > 1 and video.model not in _SEVERAL_HEADS:
            yield Problem(f"{path}.heads", f"{model} has one screen", 'model = "virtio"')
        if video.gl and video.model is not VideoModel.VIRTIO:
            yield Problem(f"{path}.gl", f"{model} has no 3D", 'model = "virtio"')
    for index, entry in enumerate(vm.inputs):
        if (entry.evdev is not None) != (entry.model in _EVDEV):
            message = "is missing" if entry.evdev is None else f"{entry.model.value} has none"
            yield Problem(f".input[{index}].evdev", message, 'evdev = "/dev/input/…" of the host')


def _sounds(vm: MachineSpec) -> Iterator[Problem]:
    for index, sound in enumerate(vm.sounds):
        for key, card in (("multi", SoundModel.USB_AUDIO), ("streams", SoundModel.VIRTIO)):
            if getattr(sound, key) is not None and sound.model is not card:
                yield Problem(f".sound[{index}].{key}", f"{sound.model.value} has none")
    ids = [audio.id for audio in vm.audio]
    for index, id_ in enumerate(ids):
        if id_ in ids[:index]:
            yield Problem(f".audio[{index}].id", f"{id_!r} is audio[{ids.index(id_)}] already")


def _vnc(vnc: VncSpec) -> Iterator[Problem]:
    if vnc.socket is not None and (vnc.listen is not None or vnc.port is not None):
        yield Problem(".vnc.socket", "is given with an address or port", "keep one of them")
    if vnc.port is not None and not _FIRST_VNC_PORT <= vnc.port < 1 << 16:
        yield Problem(".vnc.port", f"{vnc.port} is not {_FIRST_VNC_PORT} to 65535")
    if vnc.tls_verify and not vnc.tls:
        yield Problem(".vnc.tls_verify", "goes with TLS", "tls = true")


def _services(vm: MachineSpec) -> Iterator[Problem]:
    q35 = vm.machine.family is MachineFamily.Q35
    for index, rng in enumerate(vm.rngs):
        if (rng.egd is not None) != (rng.backend is RngBackend.EGD):
            message = "is missing" if rng.egd is None else f"{rng.backend.value} has none"
            yield Problem(f".rng[{index}].egd", message, "the connection to the daemon")
    for index, watchdog in enumerate(vm.watchdogs):
        path = f".watchdog[{index}]"
        if watchdog.model is WatchdogModel.ITCO and not q35:
            yield Problem(f"{path}.model", "itco is in the q35 chipset", 'model = "i6300esb"')
        if watchdog.action is not vm.watchdogs[0].action:
            yield Problem(f"{path}.action", "QEMU has one action for all watchdogs")
    if vm.iommu is not None and not q35 and vm.iommu.model is not IommuModel.AMD:
        yield Problem(".iommu.model", f"{vm.iommu.model.value} needs q35", 'machine = "q35"')
    bits = vm.iommu.aw_bits if vm.iommu and vm.iommu.model is IommuModel.INTEL else None
    if bits not in (None, 39, 48):
        yield Problem(".iommu.aw_bits", f"{bits} is neither 39 nor 48")
    yield from _cards(vm)
    yield from _pstore(vm)


def _pstore(vm: MachineSpec) -> Iterator[Problem]:
    if vm.pstore is None:
        return
    if vm.machine.family is MachineFamily.MICROVM:
        yield Problem(".pstore", "a microvm has no place for it", 'machine = "q35"')
    if vm.pstore.size < _ERST_RECORD or vm.pstore.size % _ERST_RECORD:
        yield Problem(".pstore.size", f"{vm.pstore.size} is not a whole number of 8KiB records")


def _cards(vm: MachineSpec) -> Iterator[Problem]:
    for index, shmem in enumerate(vm.shmems):
        if shmem.size is not None and shmem.size & (shmem.size - 1):
            yield Problem(f".shmem[{index}].size", f"{shmem.size} is no power of two")
    for index, card in enumerate(vm.smartcards):
        if card.mode is SmartcardMode.PASSTHROUGH and card.backend is None:
            yield Problem(f".smartcard[{index}].backend", "is missing", "where the card comes from")
        if len(card.certificates) not in (0, 3):
            yield Problem(f".smartcard[{index}].certificates", "are not three")


def _hostdev(dev: HostdevSpec) -> Iterator[Problem]:
    host = dev.host or ""
    if dev.type is HostdevType.USB:
        pair = (dev.vendor is not None, dev.product is not None)
        if dev.host is None and not all(pair):
            hint = 'host = "BUS.DEVICE", or vendor = … and product = …'
            yield Problem("", "does not say which USB device", hint)
        elif dev.host is not None and not re.fullmatch(r"\d+\.\d+", host):
            yield Problem(".host", f"{host!r} is not BUS.DEVICE", "lsusb lists them")
        return
    if dev.url is not None:
        if dev.type is not HostdevType.SCSI or not dev.url.startswith("iscsi"):
            yield Problem(".url", "is for SCSI devices, on iSCSI", 'type = "scsi"')
        return
    if dev.host is None:
        yield Problem(".host", "is missing")
    elif dev.type is HostdevType.PCI and not _PCI.fullmatch(host):
        yield Problem(".host", f"{host!r} is no PCI address", "lspci -D lists them")
    elif dev.type is HostdevType.MDEV and not _is_uuid(host):
        yield Problem(".host", f"{host!r} is no UUID")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
