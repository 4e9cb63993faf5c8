"""The open file descriptors that QEMU inherits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import attrs

from qorch.plan import MachinePlan


@attrs.frozen(kw_only=True)
class Handles:
    """File descriptor numbers.

    Listening sockets for monitors, the console, and further ports by their id; the console's log;
    a tap per network card; and what credentials are read from. `now` is the time of the start in
    seconds since the epoch, for clocks that differ from the host's.
    """

    qmp: int
    monitor: int
    console: int
    console_log: int
    taps: Mapping[str, int]
    sockets: Mapping[str, int] = attrs.field(factory=dict)
    credentials: Mapping[str, int] = attrs.field(factory=dict)
    now: int = 0

    @classmethod
    def from_numbers(
        cls, plan: MachinePlan, numbers: Iterator[int] | None = None, now: int = 0
    ) -> Handles:
        """Stand-ins that no file is behind: for showing a command line."""
        numbers = numbers or count(3)
        return cls(
            qmp=next(numbers),
            monitor=next(numbers),
            console=next(numbers),
            console_log=next(numbers),
            taps={nic.id: next(numbers) for nic in plan.nics},
            credentials={item.name: next(numbers) for item in plan.credentials},
            now=now,
            sockets={name: next(numbers) for name in plan.sockets},
        )

    @property
    def fds(self) -> tuple[int, ...]:
        """All of them."""
        return (
            *(self.qmp, self.monitor, self.console, self.console_log),
            *self.taps.values(),
            *self.sockets.values(),
            *self.credentials.values(),
        )
