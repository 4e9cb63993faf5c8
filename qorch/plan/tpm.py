"""The TPM: a program of its own, whose state stays with the machine; or the host's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.note import Note
from qorch.spec import FirmwareType, MachineSpec, TpmSpec
from qorch.units import Name

SWTPM = "swtpm"


@attrs.frozen(kw_only=True)
class TpmPlan:
    """A TPM: what was asked for, and for an emulated one its program and its state's directory."""

    spec: TpmSpec
    program: Path | None = None
    directory: Path | None = None


def plan_tpm(
    name: Name, spec: MachineSpec, facts: Facts, problems: list[Problem]
) -> TpmPlan | None:
    """The TPM of one machine; a program that is missing is added to `problems`."""
    if spec.tpm is None:
        return None
    if spec.tpm.device is not None or spec.tpm.socket is not None:
        return TpmPlan(spec=spec.tpm)
    if SWTPM not in facts.programs:
        message = "swtpm is not installed; it is what emulates a TPM"
        problems.append(Problem(f"vm.{name}.tpm", message, "apt-get install swtpm", on_host=True))
    return TpmPlan(
        spec=spec.tpm,
        program=facts.programs.get(SWTPM, Path(SWTPM)),
        directory=facts.state.machine_data(name) / "tpm",
    )


def find_overwritten(name: Name, spec: MachineSpec, facts: Facts) -> Iterator[Note]:
    """A guest that finds no ACPI tables, and so no TPM.

    QEMU 7.2 leaves 160 KiB between an initrd and the end of memory (hw/i386/x86.c). With the log of
    a TPM SeaBIOS needs more than that for tables; linuxboot, which loads a bzImage, makes room for
    them, and pvh, which loads an ELF kernel, does not (pc-bios/optionrom).
    """
    bios = spec.firmware.type is FirmwareType.BIOS and spec.firmware.code is None
    if spec.tpm is None or spec.kernel is None or spec.initrd is None or not bios:
        return
    if facts.files[spec.kernel].elf:
        message = (
            f"the guest finds neither ACPI nor its TPM: {spec.kernel} is an ELF kernel, "
            "whose initrd QEMU loads over their tables; boot its bzImage (vmlinuz)"
        )
        yield Note(kind="vm", name=name, message=message)
