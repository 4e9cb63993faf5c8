"""Shared directories: what of the host a guest may mount."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.place import Place
from qorch.plan.place import Placement
from qorch.spec import MachineSpec, ShareSpec, ShareType
from qorch.units import Name

VIRTIOFSD = "virtiofsd"


@attrs.frozen(kw_only=True)
class SharePlan:
    """A shared directory: what was asked for, where the device sits, who serves it if not QEMU."""

    id: str
    spec: ShareSpec
    program: Path | None = None
    place: Place = Place()


def plan_shares(
    name: Name, spec: MachineSpec, facts: Facts, placement: Placement, problems: list[Problem]
) -> Iterator[SharePlan]:
    """The shares of one machine; a directory that is not there is added to `problems`."""
    for index, share in enumerate(spec.shares):
        if share.path is not None and (error := facts.files[share.path].error):
            problems.append(
                Problem(
                    f"vm.{name}.share[{index}].path",
                    error,
                    "mkdir it, or correct the path",
                    on_host=True,
                )
            )
        id_, program = f"share{index}", None
        if share.type is ShareType.VIRTIOFS and share.socket is None:
            program = _find_virtiofsd(f"vm.{name}.share[{index}]", share, facts, problems)
        yield SharePlan(id=id_, spec=share, program=program, place=placement.get(id_))


def _find_virtiofsd(path: str, share: ShareSpec, facts: Facts, problems: list[Problem]) -> Path:
    """The program that serves a share; QEMU's own, in C, cannot serve one read-only."""
    if share.binary is not None:
        return share.binary
    program = facts.programs.get(VIRTIOFSD)
    if program is None:
        message, hint = "virtiofsd is not installed", "apt-get install qemu-system-common"
        problems.append(Problem(path, message, hint, on_host=True))
    elif share.read_only and program.parent.name == "qemu":
        message, hint = f"{program} cannot share read-only", 'type = "9p", or another binary'
        problems.append(Problem(f"{path}.read_only", message, hint, on_host=True))
    return program or Path(VIRTIOFSD)
