"""Flash: firmware and its variables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.plan import MachinePlan
from qorch.switch import Switch
from qorch.switch.backend import Blockdev
from qorch.switch.base import Global
from qorch.switch.firmware import Bios

CODE, VARIABLES = "firmware", "firmware-vars"


@attrs.frozen
class Flash:
    """The nodes that `-machine` has its flash on."""

    pflash0: str | None = None
    pflash1: str | None = None


def name_flash(plan: MachinePlan) -> Flash:
    """Code first, variables second."""
    firmware = plan.firmware
    return Flash(
        CODE if firmware.code else None,
        VARIABLES if firmware.variables else None,
    )


def make_firmware(plan: MachinePlan) -> Iterator[Switch]:
    """The nodes of the flash, and what makes it safe from the guest."""
    firmware = plan.firmware
    if firmware.bios is not None:
        yield Bios(path=Path(firmware.bios))
    if firmware.code is not None:
        yield Blockdev(
            node_name=CODE,
            driver=firmware.code.format,
            filename=firmware.code.path,
            read_only=firmware.code_read_only,
        )
    if firmware.variables is not None:
        yield Blockdev(
            node_name=VARIABLES,
            driver=firmware.variables.format,
            filename=firmware.variables.path,
        )
    if firmware.secure:
        yield Global(name="cfi.pflash01.secure", value=True)
