"""What a QEMU binary has: machine types, CPU models, devices and objects, their properties."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import attrs

from qorch.spec import MachineType

MACHINE_SUFFIX = "-machine"


@attrs.frozen(kw_only=True)
class MachineInfo:
    """A machine type; `alias` is the name under which it is a family's newest."""

    alias: str | None = None
    max_cpus: int
    hotpluggable_cpus: bool = False


@attrs.frozen(kw_only=True)
class Emulator:
    """A QEMU binary. `properties` has those types that were asked for.

    A type whose properties QEMU does not tell has None there.
    """

    version: str
    machines: Mapping[str, MachineInfo]
    cpu_models: frozenset[str]
    types: frozenset[str]
    properties: Mapping[str, frozenset[str] | None] = attrs.field(factory=dict)

    def resolve(self, machine: MachineType) -> MachineType | None:
        """The versioned type that a name stands for; None if there is none of that name."""
        if machine in self.machines:
            return machine
        found = (name for name, info in self.machines.items() if info.alias == machine)
        name = next(found, None)
        return None if name is None else MachineType(name)


def name_machine(machine: str) -> str:
    """The type of a machine, whose properties are what `-machine` takes."""
    return machine + MACHINE_SUFFIX


def suggest(wrong: str, known: Iterable[str]) -> str | None:
    """A hint with the nearest name there is."""
    nearest = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"did you mean {nearest[0]!r}?" if nearest else None
