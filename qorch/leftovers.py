"""What carries this state directory's mark, or lies in its run directory, and belongs to nothing.

Only looks. A supervisor removes it: when it starts, and when `qorch gc --remove` asks it to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import attrs

from qorch.paths import StateDir
from qorch.process import find_processes
from qorch.resources import is_locked
from qorch.state import Store
from qorch_storage.files import find_temporaries
from qorch_storage.plan import PoolType


@attrs.frozen(kw_only=True)
class Leftover:
    """A thing that no definition owns: an interface, rules, a table, a process, files."""

    kind: str
    name: str
    label: str  # whose it was: `network/lan`, `vm/web/nic0`

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" of {self.label}" if self.label else "")


def find_leftovers(state: StateDir) -> list[Leftover]:
    """Everything of this state directory that is owned by nothing. Blocking; raises NetError."""
    store = Store(state)
    machines, networks = set[str](store.read_machines()), set[str](store.read_networks())
    running = {name for name in machines if is_locked(state, name)}
    found: list[Leftover] = []
    for label, process in find_processes(f"{state.owner}:"):
        if not _is_owned(label, machines, networks):
            found.append(Leftover(kind="process", name=str(process.pid), label=label))
        process.close()
    found += _find_network(state, machines, running, networks)
    found += _find_files(state, machines, networks, running)
    return found


def _find_network(
    state: StateDir, machines: set[str], running: set[str], networks: set[str]
) -> Iterator[Leftover]:
    from qorch_net.probe import find_owned  # noqa: PLC0415  pyroute2: 120 ms

    owned = find_owned(state.owner)
    for link in owned.links:
        users = running if link in owned.lasting else machines
        if link.mark is not None and not _is_owned(link.mark.label, users, networks):
            yield Leftover(kind="interface", name=link.name, label=link.mark.label)
    for name in sorted(owned.ruled - networks):
        yield Leftover(kind="rules", name=f"qorch-{state.owner}", label=f"network/{name}")
    if owned.table and not networks:
        yield Leftover(kind="table", name=f"qorch-{state.owner}", label="")


def _is_owned(label: str, machines: set[str], networks: set[str]) -> bool:
    kind, name = [*label.split("/"), ""][:2]
    return name in (networks if kind == "network" else machines)  # vm/web, helper/web/tpm


def _find_files(
    state: StateDir, machines: set[str], networks: set[str], running: set[str]
) -> Iterator[Leftover]:
    for directory, owners in (
        (state.run / "vm", running),
        (state.run / "network", networks),
        (state.data / "vm", machines),
        (state.data / "network", networks),
    ):
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.name not in owners:
                label = f"{directory.name}/{path.name}"
                yield Leftover(kind="directory", name=str(path), label=label)
    pools = {"default": state.default_pool}
    pools |= {
        name: pool.plan.path
        for name, pool in Store(state).read_pools().items()
        if pool.plan.type is PoolType.DIR
    }
    for name, directory in pools.items():
        with suppress(OSError):  # `pool ls` says what is wrong with it
            for path in find_temporaries(directory):
                yield Leftover(kind="file", name=str(path), label=f"pool/{name}")
