"""QEMU's firmware descriptors: which files are UEFI for which machine.

Their form is docs/interop/firmware.json of QEMU.

A file is known by its name: one in a directory of higher priority replaces those below, and an
empty one hides them. What remains is looked through in the order of the names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs

from qorch.spec import FirmwareSpec, MachineFamily, MachineType
from qorch_storage.plan import Backing, ImageFormat

_ARCHITECTURE = "x86_64"
_ALIASES = {  # a versioned name of each, since descriptors have patterns of those
    MachineFamily.Q35: "pc-q35-0.0",
    MachineFamily.PC: "pc-i440fx-0.0",
    MachineFamily.MICROVM: "microvm",
}


@attrs.frozen(kw_only=True)
class Firmware:
    """UEFI as a descriptor has it; without a template it keeps no variables."""

    name: str
    code: Backing
    template: Backing | None = None
    machines: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()

    def fits(self, machine: MachineType) -> bool:
        """Whether a machine type can start with it."""
        versioned = machine if "-" in machine else _ALIASES[machine.family]
        return any(fnmatchcase(versioned, pattern) for pattern in self.machines)

    @property
    def has_secure_boot(self) -> bool:
        """Whether it can refuse what is not signed."""
        return "secure-boot" in self.features

    @property
    def has_keys(self) -> bool:
        """Whether its template knows the keys of the usual signers."""
        return "enrolled-keys" in self.features

    @property
    def needs_smm(self) -> bool:
        """Whether its variables are safe from the guest only in system management mode."""
        return "requires-smm" in self.features


def parse_firmwares(directories: Iterable[Mapping[str, str]]) -> tuple[Firmware, ...]:
    """The UEFI firmwares of directories from the lowest priority up: file names to content.

    What is no descriptor of flash firmware for this architecture is left out.
    """
    files: dict[str, str] = {}
    for directory in directories:
        files |= directory
    return tuple(
        firmware for name in sorted(files) if (firmware := _parse(name, files[name])) is not None
    )


def _parse(name: str, text: str) -> Firmware | None:
    try:
        data = json.loads(text)
        mapping = data["mapping"]
        if "uefi" not in data["interface-types"] or mapping["device"] != "flash":
            return None
        machines = tuple(_find_machines(data))
        if not machines:
            return None
        template = mapping.get("nvram-template")
        return Firmware(
            name=name,
            code=_image(mapping["executable"]),
            template=_image(template) if template else None,
            machines=machines,
            features=frozenset(map(str, data["features"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _find_machines(data: Mapping[str, Any]) -> Iterator[str]:
    for target in data["targets"]:
        if target["architecture"] == _ARCHITECTURE:
            yield from map(str, target["machines"])


def _image(data: Mapping[str, str]) -> Backing:
    return Backing(path=Path(data["filename"]), format=ImageFormat(data["format"]))


def choose_firmware(
    firmwares: Iterable[Firmware], machine: MachineType, spec: FirmwareSpec
) -> Firmware | None:
    """The first that fits; Secure Boot only if it is asked for, and then with keys by default."""
    secure = bool(spec.secure_boot)
    fitting = [
        firmware
        for firmware in firmwares
        if firmware.fits(machine)
        and firmware.has_secure_boot == secure
        and (spec.enrolled_keys is None or firmware.has_keys == spec.enrolled_keys)
        and (firmware.template is not None or spec.stateless)
    ]
    return next((firmware for firmware in fitting if firmware.has_keys), next(iter(fitting), None))
