"""The files of the host that a machine needs besides disks, by the key that names each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.spec import (
    ChardevSpec,
    ChardevType,
    ConfidentialType,
    HostdevType,
    MachineSpec,
    RngBackend,
)
from qorch.units import Name

_FILE = "correct the path; one that is relative starts at the directory of the file"


_RANDOM = Path("/dev/urandom")  # is everywhere
_SEV, _AMDS = Path("/dev/sev"), (ConfidentialType.SEV, ConfidentialType.SEV_SNP)
_OTHERWISE = {  # what to do about a device that is not there
    "tpm": 'ls /dev/tpm* shows the host\'s; tpm = "2.0" emulates one',
    "rng": 'without source = … it is /dev/urandom; backend = "rng-builtin" needs no device',
    "input": "ls /dev/input/by-id shows what there is",
    "nic": "vdpa dev show lists them",
    "hostdev": "lsscsi -g lists them",
    "confidential": "it is there where the CPU, its firmware and kvm_amd (sev=1) have SEV",
}


def find_file_problems(name: Name, vm: MachineSpec, facts: Facts) -> Iterator[Problem]:
    """Files, devices and directories that a machine needs and the host has not."""
    for key, path in name_files(vm).items():
        if error := facts.files[path].error:
            yield Problem(f"vm.{name}.{key}", error, _FILE, on_host=True)
    for key, path in name_devices(vm).items():
        if error := facts.files[path].error:
            hint = _OTHERWISE.get(key.partition("[")[0].partition(".")[0], "correct the path")
            yield Problem(f"vm.{name}.{key}", error, hint, on_host=True)
    for key, path in name_places(vm).items():
        if error := facts.files[path].error:
            yield Problem(f"vm.{name}.{key}", error, f"mkdir -p {path}", on_host=True)


def name_files(vm: MachineSpec) -> dict[str, Path]:
    """Those that are only read; the keys are as in the table of the machine."""
    named = {
        "kernel": vm.kernel,
        "initrd": vm.initrd,
        "emulator": vm.emulator,
        "boot.splash": vm.boot.splash,
        "firmware.code": vm.firmware.code,
        "firmware.vars_template": vm.firmware.vars_template,
        **{f"share[{index}].binary": item.binary for index, item in enumerate(vm.shares)},
        **{f"credential[{index}].file": item.file for index, item in enumerate(vm.credentials)},
        **{
            f"disk[{index}].passphrase_file": disk.passphrase_file
            for index, disk in enumerate(vm.disks)
        },
        **{f"nic[{index}].rom_file": nic.rom_file for index, nic in enumerate(vm.nics)},
        **{f"hostdev[{index}].rom_file": dev.rom_file for index, dev in enumerate(vm.hostdevs)},
        **_name_confidential(vm),
        "vnc.password_file": vm.vnc.password_file if vm.vnc else None,
        "spice.password_file": vm.spice.password_file if vm.spice else None,
        **{f"fw_cfg[{index}].file": item.file for index, item in enumerate(vm.fw_cfg)},
    }
    return {key: path for key, path in named.items() if path is not None}


def _name_confidential(vm: MachineSpec) -> dict[str, Path | None]:
    keys, guest = ("dh_cert_file", "session_file"), vm.confidential
    return {f"confidential.{key}": getattr(guest, key) for key in keys} if guest else {}


def name_text_files(vm: MachineSpec) -> dict[str, Path]:
    """Those whose content the plan takes in."""
    if vm.cloud_init is None:
        return {}
    cloud, path = vm.cloud_init, "cloud_init"
    named = {
        f"{path}.{key}": getattr(cloud, key)
        for key in ("user_data", "vendor_data", "meta_data", "network_config")
    }
    for index, user in enumerate(cloud.users):
        named[f"{path}.user[{index}].password_file"] = user.password_file
        for number, file in enumerate(user.ssh_key_files):
            named[f"{path}.user[{index}].ssh_key_files[{number}]"] = file
    for index, item in enumerate(cloud.write_files):
        named[f"{path}.write_file[{index}].source"] = item.source
    return {key: file for key, file in named.items() if file is not None}


def name_devices(vm: MachineSpec) -> dict[str, Path]:
    """Character devices of the host that QEMU opens."""
    named = {
        "tpm.device": vm.tpm.device if vm.tpm else None,
        "confidential.type": _SEV if vm.confidential and vm.confidential.type in _AMDS else None,
        "spice.rendernode": vm.spice.rendernode if vm.spice else None,
        **{f"input[{index}].evdev": item.evdev for index, item in enumerate(vm.inputs)},
        **{f"nic[{index}].vdpa": nic.vdpa for index, nic in enumerate(vm.nics)},
    }
    for index, dev in enumerate(vm.hostdevs):
        if dev.type is HostdevType.SCSI and (dev.host or "").startswith("/"):
            named[f"hostdev[{index}].host"] = Path(dev.host or "")
    for index, rng in enumerate(vm.rngs):
        own = rng.source != _RANDOM and rng.source.is_relative_to("/dev")
        if rng.backend is RngBackend.RANDOM and own:
            named[f"rng[{index}].source"] = rng.source
    for key, chardev in _chardevs(vm):
        if chardev.type in (ChardevType.SERIAL, ChardevType.PARALLEL):
            named[f"{key}.path"] = chardev.path
    return {key: path for key, path in named.items() if path is not None}


def name_places(vm: MachineSpec) -> dict[str, Path]:
    """Directories in which QEMU makes a file, by the key of that file."""
    named: dict[str, Path] = {}
    for key, chardev in _chardevs(vm):
        if chardev.path is not None and _makes_file(chardev):
            named[f"{key}.path"] = chardev.path.parent
        if chardev.log is not None:
            named[f"{key}.log"] = chardev.log.parent
    return named


def _makes_file(chardev: ChardevSpec) -> bool:
    server = chardev.type is ChardevType.SOCKET and chardev.server
    return server or chardev.type is ChardevType.FILE


def _chardevs(vm: MachineSpec) -> Iterator[tuple[str, ChardevSpec]]:
    yield from ((f"serial[{n}].backend", item.backend) for n, item in enumerate(vm.serials))
    yield from ((f"parallel[{n}].backend", item.backend) for n, item in enumerate(vm.parallels))
    yield from ((f"channel[{n}].backend", item.backend) for n, item in enumerate(vm.channels))
