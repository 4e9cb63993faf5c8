"""The board: its features, clock, boot, tables that firmware reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from qorch.errors import Problem
from qorch.spec import (
    Accel,
    BootSpec,
    ClockSpec,
    ConfidentialSpec,
    ConfidentialType,
    FeaturesSpec,
    FirmwareSpec,
    FirmwareType,
    MachineFamily,
    MachineSpec,
    TpmModel,
    TpmSpec,
    TpmVersion,
)
from qorch_storage.plan import ImageFormat

_PC_ONLY = ("hpet", "smm", "vmport", "i8042", "hmat", "s3", "s4", "tseg", "mem_merge")
_MAX_BOOT_TIME = 65.535  # seconds; milliseconds in 16 bits (hw/nvram/fw_cfg.c)
_MAX_OFFSET = 50 * 366 * 86_400  # seconds
_MAX_FW_CFG_NAME = 55  # include/hw/nvram/fw_cfg.h


def find_board_problems(vm: MachineSpec) -> Iterator[Problem]:
    """What is wrong with all that is not a device; paths start below the machine."""
    if vm.machine.family is MachineFamily.MICROVM:
        yield from _microvm(vm)
    yield from _features(vm)
    yield from _clock(vm.clock)
    yield from _boot(vm.boot)
    yield from _firmware(vm.firmware)
    if vm.tpm is not None:
        yield from _tpm(vm.tpm)
    if vm.firmware.secure_boot and vm.machine.family is not MachineFamily.Q35:
        hint = 'machine = "q35"'
        yield Problem(".firmware.secure_boot", "needs SMM, which only q35 has", hint)
    if vm.firmware.secure_boot and vm.features.smm is False:
        yield Problem(".features.smm", "Secure Boot keeps its keys by it", "smm = true")
    if vm.confidential is not None:
        yield from _confidential(vm, vm.confidential)
    yield from _tables(vm)


def _microvm(vm: MachineSpec) -> Iterator[Problem]:
    """QEMU's smallest board: neither PCI nor ISA devices but a serial port."""
    for key in _PC_ONLY:
        if key != "mem_merge" and getattr(vm.features, key) is not None:
            yield Problem(f".features.{key}", "a microvm has none", 'machine = "q35"')
    if vm.firmware.type is FirmwareType.UEFI:
        yield Problem(".firmware", "a microvm starts without UEFI", 'machine = "q35"')
    if vm.tpm is not None:
        yield Problem(".tpm", "a microvm has no place for a TPM", 'machine = "q35"')
    if vm.cpu.plugged:
        yield Problem(".cpu.plugged", "a microvm's vCPUs cannot be plugged", 'machine = "q35"')


def _confidential(vm: MachineSpec, guest: ConfidentialSpec) -> Iterator[Problem]:
    if vm.accel is Accel.TCG:
        yield Problem(".accel", "TCG keeps no memory from the host", 'accel = "kvm"')
    if vm.machine.family is MachineFamily.MICROVM:
        yield Problem(".confidential", "a microvm has none", 'machine = "q35"')
    for key in ("dh_cert_file", "session_file"):
        if getattr(guest, key) is not None and guest.type is not ConfidentialType.SEV:
            message = f"a {guest.type.value} has none"
            yield Problem(f".confidential.{key}", message, 'type = "sev-guest"')
    for key in ("cbitpos", "reduced-phys-bits"):
        if guest.type is not ConfidentialType.TDX and key not in guest.properties:
            hint = f"{key} = …; `cpuid -l 0x8000001f` tells it, EBX 5:0 and 11:6"
            yield Problem(f".confidential.properties.{key}", "is missing", hint)


def _features(vm: MachineSpec) -> Iterator[Problem]:
    features: FeaturesSpec = vm.features
    if features.kernel_irqchip not in (None, "on", "off", "split"):
        message = f"{features.kernel_irqchip!r} is none of on, off, split"
        yield Problem(".features.kernel_irqchip", message, '"split" leaves to KVM what is fast')
    if vm.accel is Accel.TCG:
        for key in ("kernel_irqchip", "dirty_ring_size"):
            if getattr(features, key) is not None:
                yield Problem(f".features.{key}", "is KVM's", 'accel = "kvm"')
    size = features.dirty_ring_size
    if size is not None and (size < 1024 or size & (size - 1)):
        yield Problem(
            ".features.dirty_ring_size", f"{size} is no power of two from 1024", "4096 will do"
        )
    if vm.machine.family is not MachineFamily.Q35 and features.tseg is not None:
        yield Problem(".features.tseg", "is of q35's chipset", 'machine = "q35"')
    for name in features.globals:
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+", name):
            yield Problem(f".features.globals.{name}", "is not DRIVER.PROPERTY", 'quote it: "a.b"')


def _clock(clock: ClockSpec) -> Iterator[Problem]:
    if not _is_time(clock.base):
        hint = 'write "utc", "localtime" or "2026-01-31T12:00:00"'
        yield Problem(".clock.base", f"{clock.base!r} is no time", hint)
    elif clock.offset is not None and clock.base not in ("utc", "localtime"):
        yield Problem(".clock.offset", "is from now, and base says when that is", "keep one")
    elif clock.offset is not None and abs(clock.offset) > _MAX_OFFSET:
        hint = 'base = "2026-01-31T12:00:00" is a time of its own'
        yield Problem(".clock.offset", f"{clock.offset} s are more than 50 years", hint)
    if clock.source not in (None, "host", "rt", "vm"):
        yield Problem(
            ".clock.source",
            f"{clock.source!r} is none of host, rt, vm",
            '"host" follows the host\'s clock',
        )


def _is_time(base: str) -> bool:
    """What `-rtc base` takes, as far as there is such a day: QEMU counts a 13th month on."""
    if not re.fullmatch(r"utc|localtime|\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?", base):
        return False
    try:
        return base in ("utc", "localtime") or bool(datetime.fromisoformat(base))
    except ValueError:
        return False


def _boot(boot: BootSpec) -> Iterator[Problem]:
    for key in ("menu_timeout", "reboot_timeout"):
        time = getattr(boot, key)
        if time is not None and time > _MAX_BOOT_TIME:
            yield Problem(f".boot.{key}", f"{time} is more than {_MAX_BOOT_TIME} s", "0s to 65s")
    if boot.menu_timeout is not None and not boot.menu:
        yield Problem(".boot.menu_timeout", "goes with a menu", "menu = true")


def _firmware(firmware: FirmwareSpec) -> Iterator[Problem]:
    if firmware.type is FirmwareType.BIOS:
        for key in ("secure_boot", "enrolled_keys", "vars", "vars_template", "stateless"):
            if getattr(firmware, key):
                yield Problem(f".firmware.{key}", "is UEFI's", 'type = "uefi"')
        return
    if firmware.enrolled_keys and firmware.secure_boot is False:
        yield Problem(".firmware.enrolled_keys", "go with Secure Boot", "secure_boot = true")
    for key in ("vars", "vars_template", "vars_format"):
        if firmware.stateless and getattr(firmware, key) is not None:
            yield Problem(
                f".firmware.{key}",
                "a stateless machine keeps no variables",
                "leave it out, or stateless = false",
            )
    own = firmware.code is not None and not firmware.stateless
    if own and firmware.vars is None and firmware.vars_template is None:
        hint = "give vars_template = …, or vars = …, or stateless = true"
        yield Problem(".firmware", "has no variables for its code", hint)
    for key in ("code_format", "vars_format"):
        if getattr(firmware, key) not in (None, ImageFormat.RAW, ImageFormat.QCOW2):
            yield Problem(f".firmware.{key}", "is neither raw nor qcow2", '"raw" or "qcow2"')


def _tpm(tpm: TpmSpec) -> Iterator[Problem]:
    if tpm.version is TpmVersion.V1_2 and tpm.model is TpmModel.CRB:
        yield Problem(".tpm.model", "a TPM 1.2 has no CRB interface", 'model = "tpm-tis"')
    if tpm.device is not None and tpm.socket is not None:
        yield Problem(".tpm.socket", "is given with a device", "keep one of them")


def _tables(vm: MachineSpec) -> Iterator[Problem]:
    release = vm.smbios.bios.release
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", release or "0.0")
    if match is None or max(map(int, match.groups())) > 0xFF:
        hint = 'two numbers up to 255: "1.15"'
        yield Problem(".smbios.bios.release", f"{release!r} is not MAJOR.MINOR", hint)
    names: set[str] = set()
    for index, credential in enumerate(vm.credentials):
        path = f".credential[{index}].name"
        if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,128}", credential.name):
            yield Problem(
                path,
                f"{credential.name!r} is no name of a credential",
                "letters, digits, '_', '.', '@' and '-'",
            )
        if credential.name in names:
            yield Problem(
                path, f"there is a credential {credential.name!r} already", "give it another name"
            )
        names.add(credential.name)
    files: set[str] = set()
    for index, item in enumerate(vm.fw_cfg):
        path = f".fw_cfg[{index}]"
        if (item.file is None) == (item.text is None):
            yield Problem(path, "has not one content", "give file = … or text = …")
        if not 0 < len(item.name) <= _MAX_FW_CFG_NAME:
            yield Problem(
                f"{path}.name",
                f"is not 1 to {_MAX_FW_CFG_NAME} characters long",
                'such as "opt/org.example/name"',
            )
        if item.name in files:
            yield Problem(
                f"{path}.name", f"there is a file {item.name!r} already", "give it another name"
            )
        files.add(item.name)
