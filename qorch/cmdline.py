"""`qorch cmdline`: the command line of a machine, without touching the host.

What the host lacks does not matter: the words are for a host that has it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs

from qorch.argv import make_argv
from qorch.errors import InputError, NotFoundError, Problem
from qorch.handles import Handles
from qorch.load import load_text
from qorch.paths import StateDir
from qorch.plan import Defined, Note, make_plan
from qorch.probe import probe
from qorch.spec import DEFAULT_NETWORK, NetworkSpec, Spec
from qorch.units import Name
from qorch_net.plan import Mode

_OF_NETWORKS: dict[str, Any] = {  # of a card, what its network sees to and no word of QEMU's says
    **dict.fromkeys(("ip", "ip6", "vlan", "native_vlan", "rate_in", "rate_out"), None),
    "antispoof": None,
    "isolated": None,
    "trunk": (),
}


def make_words(
    text: str, directory: Path, file: str, name: str | None, state: StateDir
) -> tuple[list[str], list[Note]]:
    """The words QEMU would be started with; file descriptor numbers stand in for real ones.

    What this host lacks is told in notes.

    Raises InputError, or NotFoundError if the document has no machine `name`.
    """
    spec = load_text(text, directory, file)
    if name is None:
        if len(spec.vms) != 1:
            hint = f"say which one: {', '.join(spec.vms)}" if spec.vms else "[vm.NAME] is one"
            problem = Problem(file, f"has {len(spec.vms) or 'no'} machines", hint)
            raise InputError.from_problems([problem])
        (name,) = spec.vms
    spec, assumed = _assume_networks(spec)
    plan = make_plan(spec, probe(spec, state, ask=False), Defined(), elsewhere=True)
    machine = plan.machines.get(Name(name))
    if machine is None:
        raise NotFoundError(
            f"{file} has no machine {name!r}", f"it has {', '.join(spec.vms) or 'none'}"
        )
    words = make_argv(machine, Handles.from_numbers(machine, now=int(time.time())), plan.qemu)
    return list(words), [note for note in (*assumed, *plan.notes) if _is_about(note, name)]


def _assume_networks(spec: Spec) -> tuple[Spec, list[Note]]:
    """Networks that another document defines: somebody plugs the cards' taps in."""
    notes, vms, networks = [], dict(spec.vms), dict(spec.networks)
    for name, vm in spec.vms.items():
        nics = list(vm.nics)
        for index, nic in enumerate(nics):
            if nic.network in {*spec.networks, DEFAULT_NETWORK}:
                continue
            networks[nic.network] = NetworkSpec(mode=Mode.TAP)
            nics[index] = attrs.evolve(nic, **_OF_NETWORKS)
            where = f"vm.{name}.nic[{index}].network"
            message = f"there is no network {nic.network!r} in this file"
            notes.append(Note(kind="host", name=where, message=message))
        vms[name] = attrs.evolve(vm, nics=tuple(nics))
    return attrs.evolve(spec, vms=vms, networks=networks), notes


def _is_about(note: Note, name: str) -> bool:
    """Not about another machine of the document."""
    if note.kind == "vm":
        return note.name == name
    return not note.name.startswith("vm.") or f"{note.name}.".startswith(f"vm.{name}.")
