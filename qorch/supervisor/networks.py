"""The supervisor's networks: brought up before their machines, watched, taken down after them.

qorch_net works synchronously; each of its calls runs in a thread, one call at a time.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

import attrs
import trio

from qorch.paths import StateDir
from qorch.plan import MachinePlan, add_leases
from qorch.progress import Progress, Report
from qorch.state import NetworkDefinition
from qorch.units import Name

_RESTART_DELAY = 1.0  # seconds before a dnsmasq that died is started again


@attrs.define(eq=False)
class Networks:
    """The networks of one state directory, by what is defined and what the kernel has."""

    state: StateDir
    dnsmasq: Path
    defined: dict[Name, NetworkDefinition]
    up: dict[Name, object] = attrs.field(factory=dict)  # a token for each time it came up
    _turn: trio.Lock = attrs.field(factory=trio.Lock)

    async def ensure(
        self, name: Name, machines: Mapping[Name, MachinePlan], report: Report
    ) -> None:
        """Bring a network up, or make it as it is defined now. Raises NetError."""
        from qorch_net.network import ensure_network  # noqa: PLC0415  pyroute2: 120 ms

        plan = add_leases(self.defined[name].plan, machines)
        run_dir = self.state.run / "network"
        run_dir.mkdir(parents=True, exist_ok=True)

        def ensure() -> None:
            ensure_network(
                plan, run_dir=run_dir, dnsmasq=self.dnsmasq, report=_from_thread(name, report)
            )

        async with self._turn:
            await trio.to_thread.run_sync(ensure)
            self.up.setdefault(name, object())

    async def remove(self, name: Name, report: Report) -> None:
        """Take a network down. Raises NetError."""
        from qorch_net.network import remove_network  # noqa: PLC0415

        def remove() -> None:
            remove_network(
                name,
                owner=self.state.owner,
                run_dir=self.state.run / "network",
                report=_from_thread(name, report),
            )

        async with self._turn:
            self.up.pop(name, None)
            await trio.to_thread.run_sync(remove)

    async def adopt(self, machines: Mapping[Name, MachinePlan], report: Report) -> None:
        """After a start: complete what is half up, remove what no definition owns."""
        run_dir = self.state.run / "network"
        if not self.defined and not run_dir.is_dir():
            return
        from qorch_net.network import remove_orphans  # noqa: PLC0415
        from qorch_net.probe import find_owned  # noqa: PLC0415

        def tidy() -> Collection[str]:
            run_dir.mkdir(parents=True, exist_ok=True)
            remove_orphans(self.state.owner, keep=set(self.defined), run_dir=run_dir)
            return find_owned(self.state.owner).networks

        present = await trio.to_thread.run_sync(tidy)
        for name in self.defined:
            if name in present:
                await self.ensure(name, machines, report)

    async def watch(self, name: Name, repair: Callable[[], Awaitable[None]]) -> None:
        """Wait for the end of a network's dnsmasq; have it started again while it is wanted."""
        from qorch_net.dnsmasq import find_dnsmasq  # noqa: PLC0415

        token = self.up.get(name)
        while token is not None and self.up.get(name) is token:
            pids = await trio.to_thread.run_sync(find_dnsmasq, self.state.owner)
            if name in pids:
                await _wait_pid(pids[name])
            await trio.sleep(_RESTART_DELAY)
            if self.up.get(name) is token:
                await repair()


def _from_thread(name: Name, report: Report) -> Callable[[str], None]:
    def tell(step: str) -> None:
        trio.from_thread.run_sync(report, Progress("network", name, step))

    return tell


async def _wait_pid(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
