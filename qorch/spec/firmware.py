"""What a vm.toml says about firmware, boot, clock, SMBIOS and TPM."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path

import attrs

from qorch.spec.common import AddressSpec
from qorch.units import Duration, Value
from qorch_storage.plan import ImageFormat


class FirmwareType(enum.Enum):
    """What the guest starts with."""

    BIOS = "bios"
    UEFI = "uefi"


@attrs.frozen(kw_only=True)
class FirmwareSpec:
    """`[vm.NAME.firmware]`, or `firmware = "uefi"` for short.

    UEFI is found through QEMU's firmware descriptors, unless `code` names it. The variable store is
    the machine's own, made from `vars_template`; `vars` names one that exists. `stateless` has
    none.
    """

    type: FirmwareType = FirmwareType.BIOS
    secure_boot: bool | None = None
    enrolled_keys: bool | None = None
    code: Path | None = None
    code_format: ImageFormat = ImageFormat.RAW
    code_read_only: bool = True
    vars: Path | None = None
    vars_template: Path | None = None
    vars_format: ImageFormat | None = None
    stateless: bool = False


@attrs.frozen(kw_only=True)
class BootSpec:
    """`[vm.NAME.boot]`: the boot menu; the order is each device's `bootindex`.

    Where no device has a bootindex, disks are numbered as they are written, unless `auto` is
    false. Without `strict`, firmware goes on to devices that have no bootindex.
    """

    menu: bool | None = None
    menu_timeout: Duration | None = None
    splash: Path | None = None
    reboot_timeout: Duration | None = None
    strict: bool = True
    auto: bool = True


class TickPolicy(enum.Enum):
    """What becomes of timer ticks that a guest has missed."""

    DISCARD = "discard"
    DELAY = "delay"


@attrs.frozen(kw_only=True)
class ClockSpec:
    """`[vm.NAME.clock]`: the real-time clock and timers.

    `base` is `utc`, `localtime` or a date and time (`2026-01-31T12:00:00`); `offset` is added to
    the host's time at start. `catchup` slews the RTC to make up for lost ticks (driftfix=slew).
    """

    base: str = "utc"
    offset: int | None = None
    source: str | None = None
    catchup: bool = False
    pit_policy: TickPolicy | None = None


@attrs.frozen(kw_only=True)
class SmbiosBiosSpec:
    """`[vm.NAME.smbios.bios]`: type 0."""

    vendor: str | None = None
    version: str | None = None
    date: str | None = None
    release: str | None = None


@attrs.frozen(kw_only=True)
class SmbiosSystemSpec:
    """`[vm.NAME.smbios.system]`: type 1; the UUID is the machine's."""

    manufacturer: str | None = None
    product: str | None = None
    version: str | None = None
    serial: str | None = None
    sku: str | None = None
    family: str | None = None


@attrs.frozen(kw_only=True)
class SmbiosBaseboardSpec:
    """`[[vm.NAME.smbios.baseboard]]`: type 2."""

    manufacturer: str | None = None
    product: str | None = None
    version: str | None = None
    serial: str | None = None
    asset: str | None = None
    location: str | None = None


@attrs.frozen(kw_only=True)
class SmbiosChassisSpec:
    """`[vm.NAME.smbios.chassis]`: type 3."""

    manufacturer: str | None = None
    version: str | None = None
    serial: str | None = None
    asset: str | None = None
    sku: str | None = None


@attrs.frozen(kw_only=True)
class SmbiosSpec:
    """`[vm.NAME.smbios]`: what dmidecode shows in the guest."""

    bios: SmbiosBiosSpec = SmbiosBiosSpec()
    system: SmbiosSystemSpec = SmbiosSystemSpec()
    baseboards: tuple[SmbiosBaseboardSpec, ...] = attrs.field(
        default=(), metadata={"toml": "baseboard"}
    )
    chassis: SmbiosChassisSpec = SmbiosChassisSpec()
    oem_strings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class CredentialSpec:
    """`[[vm.NAME.credential]]`: a systemd credential, from a file; never seen in a process list."""

    name: str
    file: Path


@attrs.frozen(kw_only=True)
class FwCfgSpec:
    """`[[vm.NAME.fw_cfg]]`: a file that firmware and guest read from QEMU."""

    name: str
    file: Path | None = None
    text: str | None = None


class TpmModel(enum.Enum):
    """The TPM's interface to the guest."""

    TIS = "tpm-tis"
    CRB = "tpm-crb"


class TpmVersion(enum.Enum):
    """The TPM's own version."""

    V1_2 = "1.2"
    V2_0 = "2.0"


@attrs.frozen(kw_only=True)
class TpmSpec:
    """`[vm.NAME.tpm]`, or `tpm = "2.0"` for short: swtpm, or the host's own through `device`.

    `socket` is the control socket of a swtpm that somebody else runs.
    """

    version: TpmVersion = TpmVersion.V2_0
    model: TpmModel | None = None
    device: Path | None = None
    socket: Path | None = None
    address: AddressSpec | None = None


class ConfidentialType(enum.Enum):
    """QEMU's objects that keep a guest's memory from the host."""

    SEV = "sev-guest"
    SEV_SNP = "sev-snp-guest"
    TDX = "tdx-guest"


@attrs.frozen(kw_only=True)
class ConfidentialSpec:
    """`[vm.NAME.confidential]`: a guest whose memory the host cannot read (AMD SEV, Intel TDX).

    `properties` are the object's own, by QEMU's names. `dh_cert_file` and `session_file` are what
    a guest's owner gives for SEV, in Base64.
    """

    type: ConfidentialType = ConfidentialType.SEV
    dh_cert_file: Path | None = None
    session_file: Path | None = None
    properties: Mapping[str, Value] = attrs.field(factory=dict)
