"""`qorch cmdline`: the command line of a machine, without touching the host.

What the host lacks does not matter: the words are for a host that has it.
"""

from __future__ import annotations

import time
from pathlib import Path

from qorch.argv import make_argv
from qorch.errors import InputError, NotFoundError, Problem
from qorch.handles import Handles
from qorch.load import load_text
from qorch.paths import StateDir
from qorch.plan import Defined, Note, make_plan
from qorch.probe import probe
from qorch.units import Name


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
            problem = Problem(file, f"has {len(spec.vms)} machines", "say which one")
            raise InputError.from_problems([problem])
        (name,) = spec.vms
    plan = make_plan(spec, probe(spec, state), Defined(), elsewhere=True)
    machine = plan.machines.get(Name(name))
    if machine is None:
        raise NotFoundError(f"{file} has no machine {name!r}", f"it has {', '.join(spec.vms)}")
    words = make_argv(machine, Handles.from_numbers(machine, now=int(time.time())), plan.qemu)
    return list(words), [note for note in plan.notes if _is_about(note, name)]


def _is_about(note: Note, name: str) -> bool:
    """Not about another machine of the document."""
    if note.kind == "vm":
        return note.name == name
    return not note.name.startswith("vm.") or f"{note.name}.".startswith(f"vm.{name}.")
