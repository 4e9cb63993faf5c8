"""Whether the QEMU that is installed has what a whole plan asks for. Blocking: it may be asked."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.capabilities.ask import find_emulator, is_cpu
from qorch.capabilities.check import (
    FULL_CPU,
    find_cpu_lacks,
    find_drivers,
    find_feature_lacks,
    find_lacks,
    split_global,
)
from qorch.capabilities.values import name_machine
from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan import Plan


def find_plan_lacks(plan: Plan, facts: Facts) -> Iterator[Problem]:
    """What QEMU lacks of all machines of a plan; only devices never seen before cost anything.

    Raises MachineError.
    """
    for machine in plan.machines.values():
        binary = machine.emulator or plan.qemu
        emulator = facts.emulators.get(binary)
        if emulator is None:
            continue
        drivers = [
            driver
            for driver in find_drivers(machine)
            if driver in emulator.types and not is_cpu(driver)
        ]
        if machine.cpu.features and FULL_CPU in emulator.types:
            drivers.append(FULL_CPU)
        drivers += [split_global(name)[0] for name in machine.features.globals]
        if machine.features.options:
            drivers.append(name_machine(machine.machine))
        if not emulator.properties.keys() >= set(drivers):
            emulator = find_emulator(binary, facts.state.capabilities, drivers)
        yield from find_feature_lacks(machine, emulator)
        yield from find_cpu_lacks(machine, emulator)
        yield from find_lacks(machine, emulator)
