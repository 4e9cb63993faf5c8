"""The open file descriptors that QEMU inherits: which ones a plan needs, and their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import attrs

from qorch.helper import make_helpers
from qorch.plan import MachinePlan
from qorch.spec import ChardevSpec, ChardevType, CredentialSpec
from qorch_net.plan import TapPlan

QMP, MONITOR, CONSOLE, CONSOLE_LOG = "qmp", "monitor", "console", "console.log"


@attrs.frozen
class ListeningSocket:
    """A Unix socket of ours in the machine's run directory: `NAME.sock`."""

    name: str


@attrs.frozen
class LogFile:
    """A file that is written at its end; without a path it is one of ours."""

    name: str
    path: Path | None = None
    append: bool = True


@attrs.frozen
class Tap:
    """A tap for a network card."""

    name: str
    plan: TapPlan


@attrs.frozen
class Vsock:
    """/dev/vhost-vsock with a CID that nobody else has."""

    name: str
    cid: int


@attrs.frozen
class Credential:
    """A secret of the guest's, in memory that only QEMU has."""

    name: str
    spec: CredentialSpec


@attrs.frozen
class Connection:
    """The connection to a helper, by its id."""

    name: str


Handle = ListeningSocket | LogFile | Tap | Vsock | Credential | Connection


def find_handles(plan: MachinePlan) -> Iterator[Handle]:
    """What must be open before QEMU is started, in the order in which it is opened."""
    yield from (ListeningSocket(QMP), ListeningSocket(MONITOR))
    if plan.console.is_there:
        yield ListeningSocket(CONSOLE)
        yield LogFile(CONSOLE_LOG)
    for id_, chardev in plan.chardevs():
        if is_own_socket(chardev):
            yield ListeningSocket(id_)
        if chardev.log is not None:
            yield LogFile(f"{id_}.log", chardev.log, append=chardev.log_append is not False)
    for nic in plan.nics:
        yield Tap(nic.id, nic.tap)
    if plan.vsock is not None:
        yield Vsock(plan.vsock.id, plan.vsock.cid)
    for credential in plan.credentials:
        yield Credential(f"credential.{credential.name}", credential)
    yield from (Connection(helper.id) for helper in make_helpers(plan))


def is_own_socket(chardev: ChardevSpec) -> bool:
    """Whether we bind it: nobody said where it is."""
    return chardev.type is ChardevType.SOCKET and chardev.path is None


@attrs.frozen
class Handles:
    """File descriptor numbers by name.

    `now` is the time of the start in seconds since the epoch, for clocks that differ from the
    host's.
    """

    numbers: Mapping[str, int]
    now: int = 0

    @classmethod
    def from_numbers(
        cls, plan: MachinePlan, numbers: Iterator[int] | None = None, now: int = 0
    ) -> Handles:
        """Stand-ins that no file is behind: for showing a command line."""
        numbers = numbers or count(3)
        return cls({handle.name: next(numbers) for handle in find_handles(plan)}, now)

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    def find(self, name: str) -> int | None:
        """A descriptor; None if none is needed by that name."""
        return self.numbers.get(name)

    @property
    def fds(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(self.numbers.values())
