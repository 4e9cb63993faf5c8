"""Whether the host has room for a machine's memory, and the vCPUs addresses for it."""

from __future__ import annotations

from qorch.errors import Problem
from qorch.facts import Room
from qorch.plan.note import Note
from qorch.plan.values import MachinePlan
from qorch.spec import Accel
from qorch.units import Size

_ADDRESS_BITS = 40  # of QEMU's vCPUs, unless they are told to have the host's (target/i386/cpu.c)


def find_tight_memory(
    plan: MachinePlan, room: Room | None, problems: list[Problem], notes: list[Note]
) -> None:
    """Refuse what vCPUs cannot address, and warn of what the host can only promise."""
    memory, path = plan.memory, f"vm.{plan.name}.memory"
    size = Size(memory.size + sum(device.spec.size for device in memory.devices))
    most = memory.max or size
    bits = _find_bits(plan, room)
    if most > 1 << bits:
        key = "size" if size > 1 << bits else "max"
        message = f"{most} is more than vCPUs with addresses of {bits} bits reach"
        hint = f"up to {Size(1 << bits)}; cpu = {{ properties = {{ phys-bits = … }} }} gives more"
        # QEMU before 7.1 takes a maximum that its vCPUs do not reach
        problems.append(Problem(f"{path}.{key}", message, hint, on_host=key == "max"))
    elif room is not None and size > room.ram + room.swap:
        have = f"{_round(room.ram)} and {_round(room.swap)} of swap"
        message = f"has {size} of memory, the host {have}: it is killed when it uses what it has"
        notes.append(Note(kind="vm", name=plan.name, message=message))


def _find_bits(plan: MachinePlan, room: Room | None) -> int:
    features = plan.cpu.features
    if isinstance(given := features.get("phys-bits"), int) and given:
        return int(given)
    of_host = plan.accel is Accel.KVM and plan.cpu.model in ("host", "max")
    if features.get("host-phys-bits", of_host) and room is not None and room.address_bits:
        return room.address_bits
    return _ADDRESS_BITS


def _round(count: int) -> str:
    """As people say it."""
    return f"{count / (1 << 30):.1f} GiB"
