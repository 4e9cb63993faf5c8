"""What concerns the machine as a whole: `-name`, `-machine`, `-accel`, what it boots and when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import attrs

from qorch.option import NOT_A_PROPERTY, key_values, option_word, properties
from qorch.spec import Accel, MachineType, PanicAction, RebootAction
from qorch.units import Size, Value


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
    """`-machine`; properties that a type does not have stay None, `options` are further ones."""

    type: MachineType
    acpi: bool | None = None
    hpet: bool | None = None
    smm: bool | None = None
    vmport: bool | None = None
    i8042: bool | None = None
    pic: bool | None = None
    pit: bool | None = None
    rtc: bool | None = None
    hmat: bool | None = None
    nvdimm: bool | None = None
    kernel_irqchip: str | None = None
    dump_guest_core: bool | None = None
    mem_merge: bool | None = None
    memory_backend: str | None = None
    confidential_guest_support: str | None = None
    pflash0: str | None = None
    pflash1: str | None = None
    pcspk_audiodev: str | None = None
    options: Mapping[str, Value] = attrs.field(factory=dict)

    def args(self) -> tuple[str, ...]:
        values = properties(self)
        return "-machine", option_word(str(values.pop("type")), values)


@attrs.frozen(kw_only=True)
class Accelerator:
    """`-enable-kvm`, or `-accel` where there is more to say; TCG has one thread per vCPU."""

    accel: Accel
    dirty_ring_size: int | None = None
    tb_size: Size | None = None

    def args(self) -> tuple[str, ...]:
        if self.accel is not Accel.KVM:
            tb_size = None if self.tb_size is None else self.tb_size >> 20
            return "-accel", key_values("tcg", thread="multi", tb_size=tb_size)
        if self.dirty_ring_size is None:
            return ("-enable-kvm",)
        return "-accel", key_values("kvm", dirty_ring_size=self.dirty_ring_size)


@attrs.frozen(kw_only=True)
class Overcommit:
    """`-overcommit`: memory that is never paged out, CPUs whose idle states are the guest's."""

    mem_lock: bool | None = None
    cpu_pm: bool | None = None

    def args(self) -> tuple[str, ...]:
        return "-overcommit", option_word(properties(self))


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
    """`-boot`: with `strict` nothing is booted that has no boot index; times in milliseconds."""

    menu: bool | None = None
    strict: bool | None = None
    splash: Path | None = None
    splash_time: int | None = None
    reboot_timeout: int | None = None

    def args(self) -> tuple[str, ...]:
        return "-boot", option_word(properties(self))


@attrs.frozen(kw_only=True)
class Rtc:
    """`-rtc`: `base` is utc, localtime or a time; `driftfix=slew` makes up for lost ticks."""

    base: str
    clock: str | None = None
    driftfix: str | None = None

    def args(self) -> tuple[str, ...]:
        return "-rtc", option_word(properties(self))


@attrs.frozen(kw_only=True)
class Action:
    """`-action`: what QEMU does when the guest reboots or panics."""

    reboot: RebootAction | None = None
    panic: PanicAction | None = None

    def args(self) -> tuple[str, ...]:
        return "-action", option_word(properties(self))


@attrs.frozen(kw_only=True)
class Sandbox:
    """`-sandbox`: system calls that QEMU never needs once it runs are refused by the kernel.

    It starts no programs of its own, and what is pinned is pinned from outside.
    """

    obsolete: str = "deny"
    elevateprivileges: str = "deny"
    spawn: str = "deny"
    resourcecontrol: str = "deny"

    def args(self) -> tuple[str, ...]:
        return "-sandbox", option_word("on", properties(self))


@attrs.frozen(kw_only=True)
class Global:
    """`-global DRIVER.PROPERTY=VALUE`: a default of all devices of one kind.

    All after the first `=` is the value, commas and all, and all before the first `.` is the
    driver (qemu_global_option in softmmu/vl.c); one that has a dot takes the longer form.
    """

    name: str
    value: Value

    def args(self) -> tuple[str, ...]:
        driver, _, name = self.name.rpartition(".")
        if "." in driver:
            return "-global", key_values(driver=driver, property=name, value=self.value)
        text = self.value
        if isinstance(text, bool):
            text = "on" if text else "off"
        return "-global", f"{self.name}={text}"


@attrs.frozen(kw_only=True)
class Flag:
    """A switch without a value, such as `-nodefaults` or `-S`."""

    name: str

    def args(self) -> tuple[str, ...]:
        return (f"-{self.name}",)


@attrs.frozen(kw_only=True)
class Incoming:
    """`-incoming defer`: the guest waits for memory, which `migrate-incoming` tells where it is."""

    def args(self) -> tuple[str, ...]:
        return "-incoming", "defer"


@attrs.frozen(kw_only=True)
class Display:
    """`-display`: where else the screen is shown."""

    type: str = attrs.field(default="none", metadata=NOT_A_PROPERTY)
    more: dict[str, object] = attrs.field(factory=dict)

    def args(self) -> tuple[str, ...]:
        return "-display", option_word(self.type, properties(self))


@attrs.frozen(kw_only=True)
class Words:
    """Words of the user's own, passed on as they are."""

    words: tuple[str, ...]

    def args(self) -> tuple[str, ...]:
        return self.words


@attrs.frozen(kw_only=True)
class WatchdogAct:
    """`-action watchdog=`: what happens when a watchdog is not fed; `reset` by default."""

    action: str

    def args(self) -> tuple[str, ...]:
        return "-action", option_word({"watchdog": self.action})
