"""`<os>`: machine type, firmware, what is booted and in which order; SMBIOS, fw_cfg."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import attrs

from qorch.errors import InputError, Problem
from qorch.importxml.node import Node
from qorch.importxml.values import choose, path_of
from qorch.spec import (
    BootSpec,
    FirmwareSpec,
    FirmwareType,
    FwCfgSpec,
    MachineType,
    SmbiosBaseboardSpec,
    SmbiosBiosSpec,
    SmbiosChassisSpec,
    SmbiosSpec,
    SmbiosSystemSpec,
)
from qorch.units import Duration
from qorch_storage.plan import ImageFormat

_SEABIOS = Path("/usr/share/seabios/bios-256k.bin")
_FORMATS = {"raw": ImageFormat.RAW, "qcow2": ImageFormat.QCOW2}


def read_machine(domain: Node) -> MachineType:
    """The board. Raises InputError if it is not a PC."""
    kind = domain.find("os", "type")
    if kind.text() not in ("", "hvm"):
        raise _refuse("os/type", f"{kind.text()!r} guests do not run on QEMU")
    arch = kind.get("arch") or "x86_64"
    if arch == "i686":
        kind.note("runs on qemu-system-x86_64", "@arch")
    elif arch != "x86_64":
        raise _refuse("os/type", f"is a machine for {arch}, not x86_64")
    try:
        return MachineType.from_text(kind.get("machine") or "pc")
    except ValueError as error:
        raise _refuse("os/type", str(error)) from None


def _refuse(path: str, message: str) -> InputError:
    return InputError.from_problems([Problem(path, message, "qorch runs x86 guests on QEMU")])


class BootDevice(enum.Enum):
    """The kinds of devices that `<boot dev>` names."""

    DISK = "hd"
    CDROM = "cdrom"
    FLOPPY = "fd"
    NETWORK = "network"


@attrs.define
class BootOrder:
    """Who is booted from: each device's own number, or the first of each kind that is named."""

    kinds: dict[BootDevice, int]

    @classmethod
    def from_domain(cls, domain: Node) -> BootOrder:
        """Read `<os><boot dev>`; a domain that says nothing boots from its first disk."""
        nodes = domain.find("os").all("boot")
        known = {kind.value: kind for kind in BootDevice}
        kinds = {}
        for place, node in enumerate(nodes, 1):
            if (kind := choose(node, node.get("dev"), known, "boot device")) is not None:
                kinds[kind] = place
        devices = domain.find("devices")
        own = any(child.tag == "boot" for device in devices.nodes for child in device.nodes)
        return cls(kinds or ({} if own or nodes else {BootDevice.DISK: 1}))

    def take(self, device: Node, kind: BootDevice | None) -> int | None:
        """The bootindex of a device; the first one of a kind gets the kind's."""
        own = device.find("boot")
        own.get("loadparm")
        if (order := own.number("order")) is not None:
            return order
        return self.kinds.pop(kind, None) if kind is not None else None


def read_boot(domain: Node) -> BootSpec:
    """The boot menu."""
    node = domain.find("os")
    menu, bios = node.find("bootmenu"), node.find("bios")
    timeout = menu.number("timeout")
    reboot = bios.number("rebootTimeout")
    return BootSpec(
        menu=menu.on("enable"),
        menu_timeout=None if timeout is None else Duration(timeout / 1000),
        reboot_timeout=None if reboot is None or reboot < 0 else Duration(reboot / 1000),
    )


def read_kernel(domain: Node) -> dict[str, Any]:
    """A kernel that is booted directly."""
    node = domain.find("os")
    node.leave_all("dtb", "init", "initarg", "initenv", "initdir", "inituser", "initgroup")
    domain.leave_all("bootloader", "bootloader_args", why="is Xen's")
    return {
        "kernel": path_of(node.text_of("kernel")),
        "initrd": path_of(node.text_of("initrd")),
        "append": node.text_of("cmdline"),
    }


def read_args(domain: Node) -> list[str]:
    """What only words of QEMU's own can say."""
    words = []
    node = domain.find("os")
    if (node.find("bios").number("rebootTimeout") or 0) < 0:
        words += ["-boot", "reboot-timeout=-1"]
    if shim := node.text_of("shim"):
        node.find("shim").note("is a word of QEMU 10's (-shim)")
        words += ["-shim", shim]
    for table in node.find("acpi").all("table"):
        kind = table.get("type")
        path = table.text().replace(",", ",,")
        if kind in ("slic", "msdm"):
            words += ["-acpitable", f"sig={kind.upper()},file={path}"]
        elif kind in ("raw", "rawset"):
            words += ["-acpitable", f"file={path}"]
        else:
            table.note(f"tables of type {kind!r} have no counterpart")
    return words


def read_firmware(domain: Node) -> FirmwareSpec:
    """BIOS or UEFI, as found by QEMU's descriptors or by path."""
    node = domain.find("os")
    loader, nvram = node.find("loader"), node.find("nvram")
    auto = node.get("firmware")
    node.leave_all("varstore", why="variable stores in JSON have no counterpart")
    code = path_of(loader.text())
    if auto not in (None, "efi", "bios"):
        node.note(f"there is no firmware {auto!r}", "@firmware")
    pflash = loader.get("type") == "pflash" or (code is None and loader.on("readonly") is not None)
    read_only, stateless = loader.on("readonly"), bool(loader.on("stateless"))
    if auto == "bios" and code is None:
        code = _SEABIOS
    if auto != "efi" and not (pflash and code):
        loader.get("stateless")  # as a BIOS always is
        return FirmwareSpec(code=code)
    features = _features(node.find("firmware"))
    firmware = FirmwareSpec(
        type=FirmwareType.UEFI,
        secure_boot=features.get("secure-boot", loader.on("secure")),
        enrolled_keys=features.get("enrolled-keys"),
        code=code,
        code_format=choose(loader, loader.get("format"), _FORMATS, "format") or ImageFormat.RAW,
        code_read_only=_is_read_only(auto, code, read_only),
        stateless=stateless or (auto != "efi" and not read_only and not nvram),
        **_variables(nvram),
    )
    return firmware if code is None else _complete(loader, firmware)


def _complete(loader: Node, firmware: FirmwareSpec) -> FirmwareSpec:
    """The variable store of an image that is named: libvirt knows each one's template."""
    if firmware.stateless:
        return attrs.evolve(firmware, vars=None, vars_template=None, vars_format=None)
    kind = firmware.vars_format or ImageFormat.RAW
    firmware = attrs.evolve(firmware, vars_format=kind)
    if firmware.code is None or firmware.vars or firmware.vars_template:
        return firmware
    name = firmware.code.name
    if "CODE" not in name:
        loader.note("has no template of variables that could be known: there is no store")
        return attrs.evolve(firmware, stateless=True, vars_format=None)
    plain = name if firmware.enrolled_keys else name.replace(".secboot", "")
    template = firmware.code.with_name(plain.replace("CODE", "VARS"))
    loader.note(f"libvirt knows the template of its variables; {template.name} is a guess")
    return attrs.evolve(firmware, vars_template=template)


def _is_read_only(auto: str | None, code: object, said: bool | None) -> bool:
    """An image of flash memory is writable unless it is said not to be."""
    return said is not False if auto == "efi" or code is None else bool(said)


def _features(node: Node) -> dict[str, bool | None]:
    found = {}
    for feature in node.all("feature"):
        name = feature.word("name")
        found[name] = feature.on("enabled")
        if name not in ("secure-boot", "enrolled-keys"):
            feature.note(f"there is no feature {name!r} to ask for")
    return found


def _variables(nvram: Node) -> dict[str, Any]:
    nvram.get("templateFormat")
    kind = nvram.get("type")
    source = nvram.find("source")
    path = path_of(nvram.text()) or path_of(source.get("file") or source.get("dev"))
    if kind == "network":
        nvram.leave("a variable store elsewhere has no counterpart")
    return {
        "vars": path,
        "vars_template": path_of(nvram.get("template")),
        "vars_format": choose(nvram, nvram.get("format"), _FORMATS, "format"),
    }


def read_smbios(domain: Node) -> SmbiosSpec:
    """What dmidecode shows, if `<os><smbios>` asks for it."""
    mode = domain.find("os", "smbios")
    info = next((n for n in domain.all("sysinfo") if n.get("type", "smbios") == "smbios"), None)
    wanted = mode.get("mode") or "emulate"
    if wanted != "sysinfo" or info is None:
        if wanted == "host":
            mode.note("the host's own tables are not copied", "@mode")
        if info is not None:
            info.leave("is not shown to the guest unless os/smbios has mode='sysinfo'")
        return SmbiosSpec()
    system = _entries(info.find("system"), SmbiosSystemSpec, "uuid")
    return SmbiosSpec(
        bios=SmbiosBiosSpec(**_entries(info.find("bios"), SmbiosBiosSpec)),
        system=SmbiosSystemSpec(**system),
        baseboards=tuple(
            SmbiosBaseboardSpec(**_entries(node, SmbiosBaseboardSpec))
            for node in info.all("baseBoard")
        ),
        chassis=SmbiosChassisSpec(**_entries(info.find("chassis"), SmbiosChassisSpec)),
        oem_strings=tuple(entry.text() for entry in info.find("oemStrings").all("entry")),
    )


def _entries(node: Node, kind: type, *known: str) -> dict[str, Any]:
    names = {field.name for field in attrs.fields(kind)}
    values = {}
    for entry in node.all("entry"):
        name = entry.word("name")
        if name in names:
            values[name] = entry.text()
        elif name not in known:
            entry.leave(f"there is no entry {name!r} to give")
        else:
            entry.text()
    return values


def read_fw_cfg(domain: Node) -> tuple[FwCfgSpec, ...]:
    """Files for firmware and guest."""
    return tuple(
        FwCfgSpec(
            name=entry.word("name"),
            file=path_of(entry.get("file")),
            text=entry.text() or None,
        )
        for info in domain.all("sysinfo")
        if info.get("type") == "fwcfg"
        for entry in info.all("entry")
    )
