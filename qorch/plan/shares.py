"""Shared directories: what of the host a guest may mount."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.place import Place
from qorch.plan.place import Placement
from qorch.spec import MachineSpec, ShareSpec, ShareType
from qorch.units import Name


@attrs.frozen(kw_only=True)
class SharePlan:
    """A shared directory: what was asked for, and where the device sits."""

    id: str
    spec: ShareSpec
    place: Place = Place()


def plan_shares(
    name: Name, spec: MachineSpec, facts: Facts, placement: Placement, problems: list[Problem]
) -> Iterator[SharePlan]:
    """The shares of one machine; a directory that is not there is added to `problems`."""
    for index, share in enumerate(spec.shares):
        if share.path is not None and (error := facts.files[share.path].error):
            problems.append(Problem(f"vm.{name}.share[{index}].path", error, on_host=True))
        if share.type is ShareType.VIRTIOFS:
            path = f"vm.{name}.share[{index}].type"
            problems.append(Problem(path, "virtiofs shares are not made yet", 'type = "9p"'))
        yield SharePlan(id=f"share{index}", spec=share, place=placement.get(f"share{index}"))
