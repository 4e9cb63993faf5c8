"""The machine itself: `-name`, `-machine`, `-cpu`, `-smp`, `-m` and what starts it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import attrs

from qorch.option import key_values
from qorch.spec import Accel, MachineType
from qorch.units import Size


@attrs.frozen(kw_only=True)
class NameSwitch:
    """`-name`: what `ps` and the window title show; threads named after their job."""

    guest: str

    def args(self) -> tuple[str, ...]:
        return "-name", key_values(guest=self.guest, debug_threads=True)


@attrs.frozen(kw_only=True)
class Uuid:
    """`-uuid`: SMBIOS, fw_cfg and `query-uuid` say it."""

    uuid: UUID

    def args(self) -> tuple[str, ...]:
        return "-uuid", str(self.uuid)


@attrs.frozen(kw_only=True)
class Machine:
    """`-machine`; properties that a type does not have stay None."""

    type: MachineType
    acpi: bool | None = None
    pic: bool | None = None
    pit: bool | None = None
    rtc: bool | None = None

    def args(self) -> tuple[str, ...]:
        properties = attrs.asdict(self)
        return "-machine", key_values(properties.pop("type"), **properties)


@attrs.frozen(kw_only=True)
class Accelerator:
    """`-enable-kvm`, or `-accel tcg` with one thread per vCPU."""

    accel: Accel

    def args(self) -> tuple[str, ...]:
        if self.accel is Accel.KVM:
            return ("-enable-kvm",)
        return "-accel", key_values("tcg", thread="multi")


@attrs.frozen(kw_only=True)
class Cpu:
    """`-cpu`."""

    model: str

    def args(self) -> tuple[str, ...]:
        return "-cpu", self.model


@attrs.frozen(kw_only=True)
class Smp:
    """`-smp`."""

    cpus: int

    def args(self) -> tuple[str, ...]:
        return "-smp", key_values(cpus=self.cpus)


@attrs.frozen(kw_only=True)
class Memory:
    """`-m`, in MiB."""

    size: Size

    def args(self) -> tuple[str, ...]:
        return "-m", key_values(size=f"{self.size >> 20}M")


@attrs.frozen(kw_only=True)
class DirectBoot:
    """`-kernel`, `-initrd` and `-append`: Linux without firmware or boot loader."""

    kernel: Path
    initrd: Path | None = None
    append: str | None = None

    def args(self) -> tuple[str, ...]:
        words = ["-kernel", str(self.kernel)]
        if self.initrd is not None:
            words += ["-initrd", str(self.initrd)]
        if self.append is not None:
            words += ["-append", self.append]
        return tuple(words)


@attrs.frozen(kw_only=True)
class Boot:
    """`-boot`: with `strict` nothing is booted that has no boot index."""

    strict: bool = True

    def args(self) -> tuple[str, ...]:
        return "-boot", key_values(strict=self.strict)


@attrs.frozen(kw_only=True)
class Flag:
    """A switch without a value, such as `-nodefaults` or `-S`."""

    name: str

    def args(self) -> tuple[str, ...]:
        return (f"-{self.name}",)


@attrs.frozen(kw_only=True)
class Display:
    """`-display`."""

    type: str = "none"

    def args(self) -> tuple[str, ...]:
        return "-display", self.type
