"""What `up` and `down` would do, as a list for people and programs."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

from qorch.facts import Facts
from qorch.plan.live import find_live_changes
from qorch.plan.networks import describe_network, is_up, same_network
from qorch.plan.values import Defined, MachinePlan, Plan
from qorch.spec import Spec
from qorch.units import Name
from qorch_net.plan import NetworkPlan


@attrs.frozen
class Change:
    """One line of `qorch plan`; `action` is create, change, restart, remove or none."""

    action: str
    kind: str
    name: str
    detail: str


def make_changes(
    plan: Plan, facts: Facts, defined: Defined, running: Mapping[Name, MachinePlan]
) -> list[Change]:
    """What `up` would do, in the order it would do it; `running` is what runs, as it runs."""
    return [
        *_networks(plan, facts, defined, running),
        *_volumes(plan, facts),
        *(_machine(name, plan, defined, running) for name in plan.machines),
    ]


def make_removals(spec: Spec, defined: Defined, running: Collection[Name]) -> list[Change]:
    """What `down` would do, in the order it would do it."""
    machines = [
        Change("remove", "vm", name, "stop, remove" if name in running else "remove")
        for name in spec.vms
        if name in defined.machines
    ]
    networks = [
        Change("remove", "network", name, describe_network(defined.networks[name]))
        for name in spec.networks
        if name in defined.networks
    ]
    return machines + networks


def _networks(
    plan: Plan, facts: Facts, defined: Defined, running: Mapping[Name, MachinePlan]
) -> Iterator[Change]:
    for name, network in plan.networks.items():
        kept = defined.networks.get(name)
        detail = describe_network(network)
        if kept is None or not is_up(kept, facts):
            yield Change("create", "network", name, detail)
        elif not same_network(kept, network):
            yield Change("change", "network", name, describe_difference(kept, network))
        elif taps := _find_unplugged(network, facts, running):
            yield Change("change", "network", name, f"plug in {', '.join(taps)} again")
        else:
            yield Change("none", "network", name, detail)


def _find_unplugged(
    network: NetworkPlan, facts: Facts, running: Mapping[Name, MachinePlan]
) -> list[str]:
    """Find the taps in no bridge: that of their network was removed and made anew by others."""
    loose = {link.mark for link in facts.network.links if link.mark and link.master is None}
    taps = [tap for machine in running.values() for tap in machine.taps]
    return [x.name for x in taps if x.bridge and x.bridge == network.bridge and x.mark in loose]


def _volumes(plan: Plan, facts: Facts) -> Iterator[Change]:
    volumes = [*plan.volumes.values()]
    for machine in plan.machines.values():
        volumes += [
            (disk.pool, disk.volume)
            for disk in machine.disks
            if disk.pool
            and disk.volume
            and not disk.kept
            and (disk.pool, disk.volume) not in volumes
        ]
    for pool, volume in volumes:
        path = pool.volume_path(volume.name, volume.format)
        action = "none" if path in facts.volumes else "create"
        over = f" over {volume.backing.path}" if volume.backing else ""
        yield Change(action, "volume", volume.name, f"{path}{over}")


def _machine(
    name: Name, plan: Plan, defined: Defined, running: Mapping[Name, MachinePlan]
) -> Change:
    """A running machine is compared as it runs, which may not be as it is defined."""
    wanted = plan.machines[name]
    if name in running:
        difference = describe_difference(running[name], wanted)
        live = find_live_changes(running[name], wanted) is not None
        action = "none" if not difference else "change" if live else "restart"
        return Change(action, "vm", name, difference)
    kept = defined.machines.get(name)
    if kept is None:
        cpus = f"{wanted.cpus} CPU{'s' if wanted.cpus > 1 else ''}"
        return Change("create", "vm", name, f"{cpus}, {wanted.memory.size}, start")
    difference = describe_difference(kept, wanted)
    return Change("change", "vm", name, f"{difference}; start" if difference else "start")


def describe_difference(old: object, new: object) -> str:
    """The keys whose values differ, with both values where they are short."""
    return ", ".join(_differences("", _flat(old), _flat(new)))


def _flat(value: object) -> Any:
    match value:
        case tuple() | list():
            return {str(index): _flat(item) for index, item in enumerate(value)}
        case Mapping():
            return {str(key): _flat(item) for key, item in value.items()}
        case _ if attrs.has(type(value)):
            fields = attrs.asdict(value, recurse=False)  # type: ignore[arg-type]
            given = _flat(fields.pop("spec", None)) or {}  # is not a level of its own to people
            return {**given, **{key: _flat(item) for key, item in fields.items()}}
        case enum.Enum():
            return value.value
        case _:
            return value


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    elif old != new:
        yield f"{path} {_show(old)} → {_show(new)}"


def _show(value: Any) -> str:
    """As a file has it."""
    match value:
        case dict():
            return "…"
        case bool():
            return str(value).lower()
        case None:
            return "none"
    return str(value)
