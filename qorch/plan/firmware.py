"""Firmware: which files a machine starts with, and where its variables are."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.firmware import choose_firmware
from qorch.spec import FirmwareSpec, FirmwareType, MachineSpec
from qorch.units import Name
from qorch_storage.plan import Backing, ImageFormat, find_format

VARIABLES = "firmware-vars"  # the variable store among a machine's images, and its node


@attrs.frozen(kw_only=True)
class FirmwarePlan:
    """What a machine starts with; nothing in it is QEMU's own BIOS.

    `code` and `variables` are flash, `bios` is a file for `-bios`. The variable store is made from
    the template when the machine first starts. Snapshots put images on top of it: `below` are
    those that `variables` builds on, from the top down.
    """

    bios: Path | None = None
    code: Backing | None = None
    code_read_only: bool = True
    variables: Backing | None = None
    below: tuple[Backing, ...] = ()
    template: Backing | None = None
    secure: bool = False
    smm: bool = False

    @property
    def store(self) -> tuple[Backing, ...]:
        """The images of the variable store from the top down; none if there is no store."""
        return (self.variables, *self.below) if self.variables is not None else ()


def plan_firmware(
    name: Name, spec: MachineSpec, facts: Facts, problems: list[Problem]
) -> FirmwarePlan:
    """The firmware of one machine; one that is not installed is added to `problems`."""
    firmware = spec.firmware
    if firmware.type is FirmwareType.BIOS:
        return FirmwarePlan(bios=firmware.code)
    if firmware.code is not None:
        code = Backing(path=firmware.code, format=firmware.code_format)
        template = firmware.vars_template
        return FirmwarePlan(
            code=code,
            code_read_only=firmware.code_read_only,
            variables=_place_variables(name, firmware, facts),
            template=None if template is None else _describe(template),
            secure=bool(firmware.secure_boot),
            smm=bool(firmware.secure_boot),
        )
    chosen = choose_firmware(facts.firmwares, spec.machine, firmware)
    if chosen is None:
        problems.append(_missing(name, spec, facts))
        return FirmwarePlan()
    own_template = firmware.vars_template
    return FirmwarePlan(
        code=chosen.code,
        variables=_place_variables(name, firmware, facts),
        template=chosen.template if own_template is None else _describe(own_template),
        secure=chosen.has_secure_boot,
        smm=chosen.needs_smm,
    )


def _place_variables(name: Name, firmware: FirmwareSpec, facts: Facts) -> Backing | None:
    if firmware.stateless:
        return None
    if firmware.vars is not None:
        known = firmware.vars_format or find_format(firmware.vars) or ImageFormat.RAW
        return Backing(path=firmware.vars, format=known)
    format_ = firmware.vars_format or ImageFormat.QCOW2
    path = facts.state.machine_variables(name, format_.value)
    return Backing(path=path, format=format_)


def _describe(template: Path) -> Backing:
    return Backing(path=template, format=find_format(template) or ImageFormat.RAW)


def _missing(name: Name, spec: MachineSpec, facts: Facts) -> Problem:
    wanted = "UEFI with Secure Boot" if spec.firmware.secure_boot else "UEFI"
    keys = spec.firmware.enrolled_keys
    if keys is not None:
        wanted += f" {'with' if keys else 'without'} enrolled keys"
    hint = "apt-get install ovmf; or name the files: firmware.code, firmware.vars_template"
    if facts.firmwares and not any(item.fits(spec.machine) for item in facts.firmwares):
        hint = 'machine = "q35"'
    elif facts.firmwares and spec.firmware.secure_boot:
        hint = f'{hint}; machine = "q35"'
    message = f"no {wanted} is installed for {spec.machine}"
    return Problem(f"vm.{name}.firmware", message, hint, on_host=True)
