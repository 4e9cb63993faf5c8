"""What of a plan a QEMU binary lacks: devices, objects and their properties, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qorch.argv import make_switches
from qorch.capabilities.values import Emulator, suggest
from qorch.errors import Problem
from qorch.handles import Handles
from qorch.plan import MachinePlan

FULL_CPU = "max-x86_64-cpu"  # has every feature there is, under KVM or not
_NOT_LISTED = {"driver", "id", "bus"}  # every device has them
_KINDS = {"memory": "memory.device", "sound": "sound"}


def find_drivers(plan: MachinePlan) -> list[str]:
    """The devices of a machine by QEMU's names, each once."""
    return list(dict.fromkeys(str(item["driver"]) for item in _devices(plan)))


def find_cpu_lacks(plan: MachinePlan, emulator: Emulator) -> Iterator[Problem]:
    """Features and properties that no CPU model of the binary has."""
    known = emulator.properties.get(FULL_CPU)
    if not known:
        return
    spec = plan.cpu.spec
    keys = {flag[1:]: f"flags[{index}]" for index, flag in enumerate(spec.flags)}
    keys |= {name: f"properties.{name}" for name in spec.properties}
    for name, key in keys.items():
        if name.replace("_", "-") not in known and name not in known:
            yield _lack(f"vm.{plan.name}.cpu.{key}", f"CPU feature {name!r}", name, known, emulator)


def find_lacks(plan: MachinePlan, emulator: Emulator) -> Iterator[Problem]:
    """Devices and objects that the binary has not, and properties that its devices have not."""
    for item in _devices(plan):
        driver = str(item["driver"])
        where = _find_path(plan, item)
        if driver not in emulator.types:
            yield _lack(where, f"device {driver!r}", driver, emulator.types, emulator)
            continue
        known = emulator.properties.get(driver)
        for name in item.keys() - _NOT_LISTED if known else ():
            if known is not None and name not in known:
                yield _lack(where, f"property {name!r} of {driver}", name, known, emulator)
    for item in _properties(plan):
        kind = str(item.get("qom-type", ""))
        if kind and kind not in emulator.types:
            path = _find_path(plan, item)
            yield _lack(path, f"object {kind!r}", kind, emulator.types, emulator)


def _lack(path: str, what: str, name: str, known: Iterable[str], emulator: Emulator) -> Problem:
    message = f"QEMU {emulator.version} has no {what}"
    return Problem(path, message, suggest(name, known), on_host=True)


def _devices(plan: MachinePlan) -> Iterator[Mapping[str, Any]]:
    """Those on `-device`; a node of `-blockdev` has a driver, too, but it is no device's."""
    yield from (item for item in _properties(plan) if "driver" in item and "node-name" not in item)


def _properties(plan: MachinePlan) -> Iterator[Mapping[str, Any]]:
    for switch in make_switches(plan, Handles.from_numbers(plan)):
        make = getattr(switch, "properties", None)
        if callable(make):
            yield make()


def _find_path(plan: MachinePlan, item: Mapping[str, Any]) -> str:
    """Where in the file a device comes from: ids are made of the table's name and the index."""
    whole = f"vm.{plan.name}"
    match = re.fullmatch(r"([a-z_]+)(\d+)(-dev)?", str(item.get("id", "")))
    if match is None:
        return whole
    return f"{whole}.{_KINDS.get(match[1], match[1])}[{match[2]}]"
