"""Flash: firmware and its variables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.plan import MachinePlan
from qorch.plan.firmware import VARIABLES
from qorch.switch import Switch
from qorch.switch.base import Global
from qorch.switch.blockdev import BlockdevFormat, BlockdevProtocol
from qorch.switch.firmware import Bios
from qorch_storage.plan import Backing, ImageFormat

CODE = "firmware"


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
        yield from _nodes(CODE, firmware.code, read_only=firmware.code_read_only)
    below = None
    for depth, image in reversed(tuple(enumerate(firmware.store))):
        name = f"{VARIABLES}-base{depth}" if depth else VARIABLES
        yield from _nodes(name, image, read_only=depth > 0, below=below)
        below = name
    if firmware.secure:
        yield Global(name="cfi.pflash01.secure", value=True)


def _nodes(
    name: str, image: Backing, *, read_only: bool = False, below: str | None = None
) -> Iterator[Switch]:
    """An image and what holds its bytes, over the node of the image that it builds on."""
    read = True if read_only else None
    yield BlockdevProtocol(
        node_name=f"{name}-file",
        driver="file",
        read_only=read,
        more={"filename": str(image.path)},
    )
    yield BlockdevFormat(
        node_name=name,
        driver=image.format.value,
        read_only=read,
        file=f"{name}-file",
        backing=below,
        layered=image.format is ImageFormat.QCOW2,
    )
