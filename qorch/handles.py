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
    and a tap per network card.
    """

    qmp: int
    monitor: int
    console: int
    console_log: int
    taps: Mapping[str, int]
    sockets: Mapping[str, int] = attrs.field(factory=dict)

    @classmethod
    def from_numbers(cls, plan: MachinePlan, numbers: Iterator[int] | None = None) -> Handles:
        """Stand-ins that no file is behind: for showing a command line."""
        numbers = numbers or count(3)
        return cls(
            qmp=next(numbers),
            monitor=next(numbers),
            console=next(numbers),
            console_log=next(numbers),
            taps={nic.id: next(numbers) for nic in plan.nics},
            sockets={name: next(numbers) for name in plan.sockets},
        )

    @property
    def fds(self) -> tuple[int, ...]:
        """All of them."""
        return (
            *(self.qmp, self.monitor, self.console, self.console_log),
            *self.taps.values(),
            *self.sockets.values(),
        )
