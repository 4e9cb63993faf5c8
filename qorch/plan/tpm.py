"""The TPM: a program of its own, whose state stays with the machine; or the host's."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.spec import MachineSpec, TpmSpec
from qorch.units import Name

SWTPM = "swtpm"


@attrs.frozen(kw_only=True)
class TpmPlan:
    """A TPM: what was asked for, and for an emulated one its program and its state's directory."""

    spec: TpmSpec
    program: Path | None = None
    directory: Path | None = None


def plan_tpm(
    name: Name, spec: MachineSpec, facts: Facts, problems: list[Problem]
) -> TpmPlan | None:
    """The TPM of one machine; a program that is missing is added to `problems`."""
    if spec.tpm is None:
        return None
    if spec.tpm.device is not None or spec.tpm.socket is not None:
        return TpmPlan(spec=spec.tpm)
    if SWTPM not in facts.programs:
        message = "swtpm is not installed; it is what emulates a TPM"
        problems.append(Problem(f"vm.{name}.tpm", message, "apt-get install swtpm", on_host=True))
    return TpmPlan(
        spec=spec.tpm,
        program=facts.programs.get(SWTPM, Path(SWTPM)),
        directory=facts.state.machine_data(name) / "tpm",
    )
