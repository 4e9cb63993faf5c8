"""The machines that are defined: what is stored, and what is known of it in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from qorch.errors import NotFoundError
from qorch.plan import MachinePlan
from qorch.state import Definition, Store
from qorch.units import Name


@attrs.define(eq=False)
class Definitions:
    """The definitions of machines by name; what is put here is on disk when the call returns."""

    _store: Store
    _machines: dict[Name, Definition] = attrs.field(factory=dict, init=False)

    def read(self) -> None:
        """Take what is stored."""
        self._machines |= self._store.read_machines()

    def remove_remains(self) -> None:
        """End removals that were killed in the middle, of machines and of networks."""
        self._store.remove_remains()

    def __contains__(self, name: object) -> bool:
        return name in self._machines

    def __iter__(self) -> Iterator[Name]:
        return iter(self._machines)

    def __getitem__(self, name: Name) -> Definition:
        return self._machines[name]

    def get(self, name: Name) -> Definition | None:
        """One machine's definition, if it has one."""
        return self._machines.get(name)

    def find(self, name: str) -> Name:
        """The machine of that name. Raises NotFoundError."""
        if name not in self._machines:
            known = ", ".join(sorted(self._machines)) or "none"
            raise NotFoundError(f"there is no machine {name!r}", f"machines: {known}")
        return Name(name)

    @property
    def plans(self) -> Mapping[Name, MachinePlan]:
        """What the machines are planned as."""
        return {name: definition.plan for name, definition in self._machines.items()}

    def users_of(self, network: Name) -> list[Name]:
        """The machines that have a card on a network."""
        return [
            name
            for name, plan in self.plans.items()
            if any(nic.network == network for nic in plan.nics)
        ]

    def put(self, name: Name, definition: Definition | None) -> None:
        """Store a definition, or forget the machine."""
        if definition is None:
            self._machines.pop(name, None)
            self._store.remove_machine(name)
        else:
            self._store.write_machine(definition)
            self._machines[name] = definition
