"""What is wrong with a spec in itself, before any look at the host. All problems at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from qorch.check.disk import find_volume_problems
from qorch.check.machine import find_machine_problems
from qorch.check.network import find_network_problems, find_overlapping_subnets
from qorch.check.storage import find_pool_problems
from qorch.errors import Problem
from qorch.spec import Spec
from qorch.units import Name


def find_problems(spec: Spec) -> list[Problem]:
    """Everything that is wrong with a spec in itself, each problem with its path."""
    return [
        *_names(spec),
        *_in_each("vm", spec.vms, find_machine_problems),
        *_in_each("network", spec.networks, find_network_problems),
        *_in_each("pool", spec.pools, find_pool_problems),
        *_in_each("volume", spec.volumes, find_volume_problems),
        *_shared_addresses(spec),
        *find_overlapping_subnets(spec),
    ]


def _names(spec: Spec) -> Iterator[Problem]:
    """Names that did not come through the loader are checked here."""
    tables = {"vm": spec.vms, "network": spec.networks, "pool": spec.pools, "volume": spec.volumes}
    for table, entries in tables.items():
        for name in entries:
            try:
                Name.from_text(name)
            except ValueError as error:
                yield Problem(f"{table}.{name}", str(error), getattr(error, "hint", None))


def _in_each(
    table: str, entries: Mapping[Name, object], find: Callable[..., Iterator[Problem]]
) -> Iterator[Problem]:
    for name, entry in entries.items():
        for problem in find(entry):
            yield Problem(f"{table}.{name}{problem.path}", problem.message, problem.hint)


def _shared_addresses(spec: Spec) -> Iterator[Problem]:
    """MAC addresses that two cards have, IP addresses that two cards of one network have."""
    seen: dict[object, str] = {}
    for name, vm in spec.vms.items():
        for index, nic in enumerate(vm.nics):
            path = f"vm.{name}.nic[{index}]"
            for key, value, place in (("mac", nic.mac, None), ("ip", nic.ip, nic.network)):
                if value is None:
                    continue
                if (first := seen.setdefault((place, value), path)) != path:
                    yield Problem(
                        f"{path}.{key}",
                        f"{value} belongs to {first} already",
                        "leave one of them out: qorch chooses one",
                    )
