"""What of a plan a QEMU binary lacks: devices, objects and their properties, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qorch.argv import make_switches
from qorch.capabilities.values import Emulator, name_machine, suggest
from qorch.errors import Problem
from qorch.handles import Handles
from qorch.plan import MachinePlan

FULL_CPU = "max-x86_64-cpu"  # has every feature there is, under KVM or not
_NOT_LISTED = {"driver", "id", "bus"}  # every device has them
_NOT_PROPERTIES = {"accel", "igd-passthru", "kernel-irqchip", "kvm-shadow-mem"}  # of -machine
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
            what = f"CPU feature {name!r}"
            yield _lack(f"vm.{plan.name}.cpu.{key}", what, name, known, emulator, "-cpu help")


def split_global(name: str) -> tuple[str, str]:
    """The driver and the property of a default: only drivers have a dot in their names."""
    driver, _, key = name.rpartition(".")
    return driver, key


def find_feature_lacks(plan: MachinePlan, emulator: Emulator) -> Iterator[Problem]:
    """Options of `-machine`, and drivers and properties of `-global`, that there are not.

    QEMU itself takes a default for a driver that it has not, and says nothing.
    """
    path, features = f"vm.{plan.name}.features", plan.features
    known = emulator.properties.get(name_machine(plan.machine))
    for name in features.options if known else ():
        key = name.partition(".")[0].replace("_", "-")  # `smp.cpus` is of `smp`
        if known and key not in known and key not in _NOT_PROPERTIES:
            where = f"{path}.options.{name}"
            what, listing = f"option {name!r} of {plan.machine}", f"-machine {plan.machine},help"
            yield _lack(where, what, key, known, emulator, listing)
    for name in features.globals:
        driver, key = split_global(name)
        where = f"{path}.globals.{name}"
        if driver not in emulator.properties:
            continue  # it was not asked
        known = emulator.properties[driver]
        if known is None:
            what = f"device {driver!r}"
            yield _lack(where, what, driver, emulator.types, emulator, "-device help")
        elif key not in known:
            what, listing = f"property {key!r} of {driver}", f"-device {driver},help"
            yield _lack(where, what, key, known, emulator, listing)


def find_lacks(plan: MachinePlan, emulator: Emulator) -> Iterator[Problem]:
    """Devices and objects that the binary has not, and properties that its devices have not."""
    for item in _devices(plan):
        driver = str(item["driver"])
        where = _find_path(plan, item)
        if driver not in emulator.types:
            yield _lack(
                where, f"device {driver!r}", driver, emulator.types, emulator, "-device help"
            )
            continue
        known = emulator.properties.get(driver)
        for name in item.keys() - _NOT_LISTED if known else ():
            if known is not None and name not in known:
                what, listing = f"property {name!r} of {driver}", f"-device {driver},help"
                yield _lack(where, what, name, known, emulator, listing)
    for item in _properties(plan):
        kind = str(item.get("qom-type", ""))
        if kind and kind not in emulator.types:
            path = _find_path(plan, item)
            yield _lack(path, f"object {kind!r}", kind, emulator.types, emulator, "-object help")


def _lack(
    path: str, what: str, name: str, known: Iterable[str], emulator: Emulator, listing: str
) -> Problem:
    message = f"QEMU {emulator.version} has no {what}"
    hint = suggest(name, known) or f"qemu-system-x86_64 {listing} shows what it has"
    return Problem(path, message, hint, on_host=True)


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
