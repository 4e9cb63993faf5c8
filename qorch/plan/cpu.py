"""Virtual CPUs: their model, and where in the topology each of them sits."""

from __future__ import annotations

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.note import Note
from qorch.spec import Accel, CpuSpec
from qorch.units import Name, Value


@attrs.frozen(kw_only=True)
class CpuPlan:
    """The vCPUs of a machine: what was asked for, and the model that is taken."""

    spec: CpuSpec
    model: str

    @property
    def count(self) -> int:
        """How many there are at the start."""
        return self.spec.count + len(self.spec.plugged)

    @property
    def features(self) -> dict[str, Value]:
        """What differs from the model, as QEMU's `-cpu` takes it."""
        flags: dict[str, Value] = {flag[1:]: flag[0] == "+" for flag in self.spec.flags}
        return {**flags, **self.spec.properties}

    def locate(self, index: int) -> tuple[int, int, int, int]:
        """Socket, die, core and thread of a vCPU; QEMU counts threads first.

        What the spec leaves out is as QEMU has it: cores before sockets, one of all else
        (hw/core/machine-smp.c).
        """
        spec = self.spec
        dies, threads = spec.dies or 1, spec.threads or 1
        cores = spec.cores or max(
            1, (spec.max or self.count) // (threads * dies * (spec.sockets or 1))
        )
        rest, thread = divmod(index, threads)
        rest, core = divmod(rest, cores)
        socket, die = divmod(rest, dies)
        return socket, die, core, thread


def plan_cpu(
    name: Name,
    spec: CpuSpec,
    asked: Accel,
    accel: Accel,
    facts: Facts,
    problems: list[Problem],
    notes: list[Note],
) -> CpuPlan:
    """The vCPUs of one machine; the host's own model is for KVM alone."""
    path = f"vm.{name}.cpu"
    model = spec.model or _choose_model(accel, facts)
    if model == "host" and accel is Accel.TCG:
        model = "max"
        if asked is Accel.TCG:
            hint = 'model = "max" is the best there is under TCG'
            problems.append(Problem(f"{path}.model", "the host's CPU needs KVM", hint))
        else:
            message = 'its CPU is "max", the most that TCG has: "host" needs KVM'
            notes.append(Note(kind="vm", name=name, message=message))
    pins: list[tuple[str, frozenset[int]]] = []
    pins += [(f"{path}.pin[{index}]", cpus) for index, cpus in enumerate(spec.pin)]
    if spec.emulator_pin is not None:
        pins.append((f"{path}.emulator_pin", spec.emulator_pin))
    for where, cpus in pins:
        check_pin(where, cpus, facts, problems)
    return CpuPlan(spec=spec, model=model)


def check_pin(where: str, cpus: frozenset[int], facts: Facts, problems: list[Problem]) -> None:
    """What is pinned is pinned to CPUs that the host has."""
    if missing := cpus - facts.cpus:
        problems.append(
            Problem(
                where,
                f"this host has no CPU {min(missing)}",
                f"its CPUs are {type(cpus)(facts.cpus)}",
                on_host=True,
            )
        )


def _choose_model(accel: Accel, facts: Facts) -> str:
    """The best there is; a KVM without vmx or svm does not know all of the host CPU's MSRs."""
    if accel is Accel.KVM:
        return "host" if facts.kvm.hardware else "qemu64"
    return "max"
