"""The files of the host that a machine needs besides disks, by the key that names each."""

from __future__ import annotations

from pathlib import Path

from qorch.spec import MachineSpec


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
        "vnc.password_file": vm.vnc.password_file if vm.vnc else None,
        "spice.password_file": vm.spice.password_file if vm.spice else None,
        **{f"fw_cfg[{index}].file": item.file for index, item in enumerate(vm.fw_cfg)},
    }
    return {key: path for key, path in named.items() if path is not None}


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
