"""What firmware and guest read of the machine: SMBIOS tables, fw_cfg files, ACPI devices."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import attrs

from qorch.option import Properties, json_word, option_word, properties
from qorch.spec import (
    SmbiosBaseboardSpec,
    SmbiosBiosSpec,
    SmbiosChassisSpec,
    SmbiosSystemSpec,
)


@attrs.frozen(kw_only=True)
class Smbios:
    """`-smbios`: a table of type 0 to 3, whose fields have QEMU's names in the spec."""

    type: int
    fields: SmbiosBiosSpec | SmbiosSystemSpec | SmbiosBaseboardSpec | SmbiosChassisSpec

    def args(self) -> tuple[str, ...]:
        return "-smbios", option_word({"type": self.type}, properties(self.fields))


@attrs.frozen(kw_only=True)
class SmbiosOemStrings:
    """`-smbios type=11`: strings of any content, given or read from files."""

    values: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()

    def args(self) -> tuple[str, ...]:
        pairs = [{"value": value} for value in self.values]
        return "-smbios", option_word(
            {"type": 11}, *pairs, *({"path": path} for path in self.paths)
        )


@attrs.frozen(kw_only=True)
class FwCfg:
    """`-fw_cfg`: a file by name, from a file or a string."""

    name: str
    file: Path | None = None
    string: str | None = None

    def args(self) -> tuple[str, ...]:
        return "-fw_cfg", option_word(properties(self))


@attrs.frozen(kw_only=True)
class DeviceVmgenid:
    """`-device vmgenid`: tells the guest that it was copied or set back."""

    id: str
    guid: UUID

    def properties(self) -> Properties:
        """As `device_add` would take them (it is no hotplug device)."""
        return {"driver": "vmgenid", **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class DeviceVmcoreinfo:
    """`-device vmcoreinfo`: the guest's kernel leaves a note for whoever reads its dump."""

    id: str

    def properties(self) -> Properties:
        """As `device_add` would take them (it is no hotplug device)."""
        return {"driver": "vmcoreinfo", **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())


@attrs.frozen(kw_only=True)
class Bios:
    """`-bios`: another BIOS than QEMU's own."""

    path: Path

    def args(self) -> tuple[str, ...]:
        return "-bios", str(self.path)
