"""The machine type, and what QEMU has for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.capabilities.values import Emulator, suggest
from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.values import MachinePlan
from qorch.spec import MachineSpec, MachineType
from qorch.units import Name

QEMU = "qemu-system-x86_64"


def find_emulator(spec: MachineSpec, facts: Facts) -> Emulator | None:
    """What the QEMU of a machine has, if it could be asked."""
    binary = spec.emulator or facts.programs.get(QEMU, Path(QEMU))
    return facts.emulators.get(binary)


def choose_machine(
    name: Name, spec: MachineSpec, kept: MachinePlan | None, facts: Facts, problems: list[Problem]
) -> MachineType:
    """The versioned type; once given it is kept, so that a newer QEMU changes no hardware."""
    asked = spec.machine
    is_alias = "-" not in asked
    if is_alias and kept is not None and kept.machine.family is asked.family:
        asked = kept.machine
    emulator = find_emulator(spec, facts)
    if emulator is None:
        problems += _find_unusable(name, spec, facts)
        return asked
    found = emulator.resolve(asked)
    if found is None:
        hint = suggest(asked, emulator.machines) or f"{QEMU} -machine help lists them"
        if asked != spec.machine:
            newest = emulator.resolve(spec.machine)
            hint = f'the guest was made with it; machine = "{newest}" gives it newer hardware'
        message = f"QEMU {emulator.version} has no machine type {asked}"
        problems.append(Problem(f"vm.{name}.machine", message, hint, on_host=True))
        return asked
    return found


def _find_unusable(name: Name, spec: MachineSpec, facts: Facts) -> Iterator[Problem]:
    """A QEMU that does not answer; one that is not there is told elsewhere."""
    binary = spec.emulator or facts.programs.get(QEMU, Path(QEMU))
    error = facts.emulator_errors.get(binary)
    if error is not None and (spec.emulator is None or facts.files[binary].error is None):
        hint = f"{binary} --version must say it is QEMU; without emulator = …, {QEMU} is taken"
        yield Problem(f"vm.{name}.emulator", error, hint, on_host=True)


def find_cpu_lacks(
    name: Name, spec: MachineSpec, plan: MachinePlan, emulator: Emulator
) -> Iterator[Problem]:
    """More vCPUs than the machine type takes, and CPU models that there are not."""
    path, cpu = f"vm.{name}.cpu", spec.cpu
    info = emulator.machines.get(plan.machine)
    total = max(cpu.max or 0, plan.cpus)
    if info is not None and total > info.max_cpus:
        key = "max" if cpu.max else "count"
        message = f"{total} vCPUs: a {plan.machine} takes up to {info.max_cpus}"
        yield Problem(f"{path}.{key}", message, f"{key} = {info.max_cpus}", on_host=True)
    if info is not None and cpu.plugged and not info.hotpluggable_cpus:
        message, hint = f"a {plan.machine} has no CPUs to plug", "count = … has them from the start"
        yield Problem(f"{path}.plugged", message, hint, on_host=True)
    if plan.cpu.model not in emulator.cpu_models:
        message = f"QEMU {emulator.version} has no CPU model {plan.cpu.model!r}"
        hint = suggest(plan.cpu.model, emulator.cpu_models) or f"{QEMU} -cpu help lists them"
        yield Problem(f"{path}.model", message, hint, on_host=True)
