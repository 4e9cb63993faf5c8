"""What firmware and guest read of the machine: SMBIOS, credentials, fw_cfg, ACPI devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.handles import Handles
from qorch.plan import MachinePlan
from qorch.spec import SmbiosBiosSpec, SmbiosChassisSpec, SmbiosSystemSpec
from qorch.switch import Switch
from qorch.switch.firmware import (
    DeviceVmcoreinfo,
    DeviceVmgenid,
    FwCfg,
    Smbios,
    SmbiosOemStrings,
)


def make_tables(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """All that is set; a credential is read from an inherited memfd, and is in no process list."""
    smbios = plan.smbios
    if smbios.bios != SmbiosBiosSpec():
        yield Smbios(type=0, fields=smbios.bios)
    if smbios.system != SmbiosSystemSpec():
        yield Smbios(type=1, fields=smbios.system)
    yield from (Smbios(type=2, fields=board) for board in smbios.baseboards)
    if smbios.chassis != SmbiosChassisSpec():
        yield Smbios(type=3, fields=smbios.chassis)
    if smbios.oem_strings or plan.credentials:
        secrets = [handles[f"credential.{item.name}"] for item in plan.credentials]
        yield SmbiosOemStrings(
            values=smbios.oem_strings,
            paths=tuple(Path(f"/proc/self/fd/{fd}") for fd in secrets),
        )
    for item in plan.fw_cfg:
        yield FwCfg(name=item.name, file=item.file, string=item.text)
    if plan.genid is not None:
        yield DeviceVmgenid(id="genid0", guid=plan.genid)
    if plan.features.vmcoreinfo:
        yield DeviceVmcoreinfo(id="vmcoreinfo0")
