"""What was imported as a vm.toml, with comments on what could not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qorch.convert import make_plain
from qorch.importxml.domain import Imported
from qorch.importxml.nics import Network
from qorch.importxml.toml import write_comment, write_document
from qorch.spec import DEFAULT_NETWORK, MachineSpec, Spec


def render(imported: Imported) -> str:
    """The text of a vm.toml."""
    document = make_plain(Spec(vms={imported.name: imported.machine}))
    machine = _shorten(document["vm"][imported.name], imported.machine)
    lines = list(_head(imported))
    for network in imported.networks:
        lines += _suggest(network)
    lines += ["", write_document({"vm": {imported.name: machine}})]
    return "\n".join(lines)


def _shorten(machine: dict[str, Any], spec: MachineSpec) -> dict[str, Any]:
    """`cpus = 2`, `memory = "1GiB"`, `rng = false` and the like, where they say it all."""
    machine = {"machine": str(spec.machine), "accel": spec.accel.value, **machine}
    cpu, memory = machine.pop("cpu", {}), dict(machine.pop("memory", {}))
    first = [key for key in ("machine", "accel", "uuid", "title") if key in machine]
    head: dict[str, Any] = {key: machine.pop(key) for key in first}
    count = cpu.pop("count", 1) if len(cpu) == 1 or "count" not in cpu else None
    if count is not None:
        head["cpus"] = count
    memory = {"size": str(spec.memory.size), **memory}
    if "balloon" in memory and memory["balloon"] == {"enabled": False}:
        memory["balloon"] = False
    head["memory"] = memory["size"] if len(memory) == 1 else memory
    if cpu:
        head["cpu"] = cpu
    if not spec.rngs:
        machine["rng"] = False
    elif "rng" not in machine:
        machine["rng"] = True
    for key, short in (("display", "type"), ("tpm", "version"), ("firmware", "type")):
        if set(machine.get(key, {})) == {short}:
            machine[key] = machine[key][short]
    return {**head, **machine}


def _head(imported: Imported) -> Iterator[str]:
    title = imported.machine.title or imported.name
    yield from write_comment(f"Imported from libvirt's domain {title}.")
    for remark in imported.remarks:
        yield "#"
        yield from write_comment(remark)
    if imported.notes:
        yield "#"
        yield from write_comment("Not as it was there:")
        for note in imported.notes:
            yield from write_comment(f"- {note}")


def _suggest(network: Network) -> Iterator[str]:
    """A network as it could be, for whoever knows what it was."""
    if network.name == DEFAULT_NETWORK and network.kind == "network":
        return
    yield "#"
    yield from write_comment(f"The network {network.name} was a {network.kind} {network.source!r}:")
    kind, _, _ = network.kind.partition(" ")
    yield from write_comment(f"[network.{network.name}]")
    match kind:
        case "bridge":
            yield from write_comment(f'mode = "bridge"\nbridge = "{network.source}"')
        case "direct":
            yield from write_comment(f'mode = "macvtap"\nuplink = "{network.source}"')
        case _:
            yield from write_comment('mode = "nat"\nsubnet = "192.168.x.0/24"')
