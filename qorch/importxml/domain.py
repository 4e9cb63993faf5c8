"""`<domain>`: a whole machine, and what of it could not be carried over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from qorch.errors import InputError, Problem
from qorch.importxml import boot, features
from qorch.importxml.address import Buses
from qorch.importxml.boot import BootOrder
from qorch.importxml.confidential import read_confidential
from qorch.importxml.controllers import bridges_for, read_controllers
from qorch.importxml.cpu import read_cpu, read_iothreads, read_main_loop, read_tune
from qorch.importxml.devices import read_genid, read_others
from qorch.importxml.disks import read_disks
from qorch.importxml.display import read_display, read_inputs, read_sounds, read_videos
from qorch.importxml.hmat import read_hmat
from qorch.importxml.hostdevs import read_hostdevs
from qorch.importxml.memory import read_memory, read_numa
from qorch.importxml.nics import Network, read_nics
from qorch.importxml.node import ImportNote, Node
from qorch.importxml.ports import read_args as read_port_args
from qorch.importxml.ports import read_channels, read_parallels, read_serials
from qorch.importxml.values import make_name, path_of, uuid_of
from qorch.spec import (
    Accel,
    AddressSpec,
    ConsoleDevice,
    ConsoleSpec,
    FirmwareType,
    MachineSpec,
)
from qorch.spec.machine import MachineFamily
from qorch.units import Name

_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0 "
_EMULATORS = frozenset(
    {"/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-i386", "/usr/bin/qemu-kvm"}
    | {"/usr/libexec/qemu-kvm", "/usr/bin/kvm", "/usr/bin/qemu"}
)
_ACCELS = {"kvm": Accel.KVM, "qemu": Accel.TCG}


@attrs.frozen(kw_only=True)
class Imported:
    """A machine by its name, what to know about it, and the networks it is on."""

    name: Name
    machine: MachineSpec
    notes: tuple[ImportNote, ...]
    networks: tuple[Network, ...]
    remarks: tuple[str, ...] = ()


def read_domain(domain: Node) -> Imported:
    """Make a machine of a domain. Raises InputError if it is none for QEMU on a PC."""
    if domain.tag == "domstatus":
        domain = domain.find("domain")
    if domain.tag != "domain" or not domain:
        problem = Problem("domain XML", f"is a <{domain.tag}>, not a <domain>")
        raise InputError.from_problems([problem])
    _skip_what_says_nothing(domain)
    name, title = _name(domain)
    remarks = tuple(filter(None, map(domain.text_of, ("title", "description"))))
    machine, networks = _machine(domain, title)
    notes = [*domain.notes, *domain.find_unread()]
    unique = dict.fromkeys(note for note in notes if not note.path.endswith("@id"))
    return Imported(
        name=name,
        machine=machine,
        notes=tuple(unique),
        networks=tuple(networks),
        remarks=remarks,
    )


def _name(domain: Node) -> tuple[Name, str | None]:
    """A host name, and the domain's own name if that was none."""
    text = domain.text_of("name") or "guest"
    name = make_name(text, "guest")
    if name == text:
        return name, None
    domain.find("name").note(f"{text!r} is no host name: the machine is {name!r}, with a title")
    return name, text


def _machine(domain: Node, title: str | None) -> tuple[MachineSpec, list[Network]]:
    accel = _accel(domain)
    kind = boot.read_machine(domain)
    buses, order = Buses(kind), BootOrder.from_domain(domain)
    devices = domain.find("devices")
    firmware = boot.read_firmware(domain)
    board = features.read_features(domain)
    if firmware.type is FirmwareType.UEFI and domain.find("os").get("firmware") == "efi":
        firmware, board = _choose_secure_boot(firmware, board, kind.family)
    disks = read_disks(domain, buses, order)
    nics = read_nics(devices, buses, order, kvm=accel is Accel.KVM)
    agent, channels = read_channels(devices, buses)
    values: dict[str, Any] = {
        **boot.read_kernel(domain),
        **features.read_events(domain),
        **read_display(devices),
        **read_sounds(devices, buses),
        **read_others(devices, buses, order),
        "emulator": _emulator(devices),
        "disks": disks,
        "nics": tuple(nics.nics),
        "controllers": read_controllers(devices, buses),
        "serials": read_serials(devices, buses),
        "parallels": read_parallels(devices, buses),
        "channels": channels,
        "videos": read_videos(devices, buses),
        "inputs": read_inputs(devices, buses),
        "hostdevs": (*read_hostdevs(devices, buses, order), *nics.hostdevs),
    }
    spec = MachineSpec(
        machine=kind,
        accel=accel,
        uuid=uuid_of(domain, domain.text_of("uuid")),
        title=title,
        cpu=read_cpu(domain),
        memory=read_memory(domain, buses),
        numa=read_numa(domain, buses),
        iothreads=read_iothreads(domain),
        clock=features.read_clock(domain),
        features=board,
        firmware=firmware,
        boot=boot.read_boot(domain),
        smbios=boot.read_smbios(domain),
        fw_cfg=boot.read_fw_cfg(domain),
        genid=read_genid(domain),
        confidential=read_confidential(domain),
        console=ConsoleSpec(device=ConsoleDevice.NONE),
        guest_agent=agent,
        qemu_args=(
            *boot.read_args(domain),
            *features.read_args(domain),
            *read_main_loop(domain),
            *read_hmat(domain),
            *read_port_args(devices),
            *_words(domain),
        ),
        **{key: value for key, value in values.items() if value is not None},
    )
    return _complete(spec, buses), nics.networks


def _accel(domain: Node) -> Accel:
    kind = domain.get("type") or "kvm"
    domain.get("id")
    if kind not in _ACCELS:
        problem = Problem("domain@type", f"{kind!r} is not QEMU", "qorch runs kvm and qemu domains")
        raise InputError.from_problems([problem])
    return _ACCELS[kind]


def _emulator(devices: Node) -> Any:
    text = devices.text_of("emulator")
    return path_of(text) if text and text not in _EMULATORS else None


def _choose_secure_boot(firmware: Any, board: Any, family: MachineFamily) -> tuple[Any, Any]:
    """The first descriptor that fits, as libvirt has it: Secure Boot where there is SMM."""
    if firmware.secure_boot is None and firmware.code is None:
        fits = family is MachineFamily.Q35 and board.smm is not False and not firmware.stateless
        firmware = attrs.evolve(firmware, secure_boot=fits and firmware.enrolled_keys is not False)
    if firmware.secure_boot and board.smm is None:
        board = attrs.evolve(board, smm=True)
    return firmware, board


def _complete(spec: MachineSpec, buses: Buses) -> MachineSpec:
    """What follows from all of the devices together."""
    bridges = bridges_for(spec.controllers, list(_addresses(spec)), buses)
    spec = attrs.evolve(spec, controllers=(*bridges, *spec.controllers))
    bootable: list[Any] = [*spec.disks, *spec.nics, *spec.hostdevs, *spec.usb_redirs, *spec.shares]
    if spec.kernel is None and all(device.bootindex is None for device in bootable):
        spec = attrs.evolve(spec, boot=attrs.evolve(spec.boot, auto=False))
    return spec


def _addresses(value: Any) -> Iterator[AddressSpec]:
    if isinstance(value, AddressSpec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _addresses(item)
    elif attrs.has(type(value)):
        for field in type(value).__attrs_attrs__:
            yield from _addresses(getattr(value, field.name))


def _words(domain: Node) -> list[str]:
    """`<qemu:commandline>`: words of QEMU's own."""
    line = domain.find(f"{_QEMU}commandline")
    words = [argument.word("value") for argument in line.all(f"{_QEMU}arg")]
    for variable in line.all(f"{_QEMU}env"):
        variable.note(f"QEMU's environment is qorch's: {variable.get('name')} is not set")
        variable.get("value")
    for tag in ("override", "capabilities", "deprecation"):
        domain.find(f"{_QEMU}{tag}").leave("has no counterpart")
    return words


def _skip_what_says_nothing(domain: Node) -> None:
    """Names and records of libvirt's own."""
    domain.skip_all("metadata", "seclabel")
    domain.find("devices").seen = True
    domain.leave_all("keywrap")
    _skip_aliases(domain)
    read_tune(domain)


def _skip_aliases(node: Node) -> None:
    for child in node.nodes:
        if child.tag == "alias":
            child.skip()
        _skip_aliases(child)
