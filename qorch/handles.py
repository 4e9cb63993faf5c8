"""The open file descriptors that QEMU inherits: which ones a plan needs, and their numbers."""

from __future__ import annotations

import itertools
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
    """A tap for a network card: a descriptor for each queue, and as many of vhost-net, or none."""

    name: str
    plan: TapPlan

    @property
    def names(self) -> tuple[str, ...]:
        """What its descriptors are called, queues first."""
        kinds = ("queue", "vhost") if self.plan.vhost else ("queue",)
        return tuple(
            f"{self.name}.{kind}{number}" for kind in kinds for number in range(self.plan.queues)
        )


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
class Password:
    """What a viewer is asked for: the line in a file, in memory that only QEMU has."""

    name: str
    file: Path


@attrs.frozen
class Connection:
    """The connection to a helper, by its id."""

    name: str


Handle = ListeningSocket | LogFile | Tap | Vsock | Credential | Password | Connection


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
        if nic.tap is not None:
            yield Tap(nic.id, nic.tap)
    if plan.vsock is not None:
        yield Vsock(plan.vsock.id, plan.vsock.cid)
    yield from _find_secrets(plan)
    yield from (Connection(helper.id) for helper in make_helpers(plan))


def _find_secrets(plan: MachinePlan) -> Iterator[Handle]:
    for credential in plan.credentials:
        yield Credential(f"credential.{credential.name}", credential)
    for name, screen in (("vnc", plan.vnc), ("spice", plan.spice)):
        if screen is not None and screen.spec.password_file is not None:
            yield Password(f"{name}.password", screen.spec.password_file)


def find_names(handle: Handle) -> tuple[str, ...]:
    """What the descriptors of a handle are called."""
    return handle.names if isinstance(handle, Tap) else (handle.name,)


def is_own_socket(chardev: ChardevSpec) -> bool:
    """Whether we bind it: nobody said where it is."""
    return chardev.type is ChardevType.SOCKET and chardev.path is None


@attrs.frozen
class Handles:
    """File descriptor numbers by name.

    `now` is the time of the start in seconds since the epoch, for clocks that differ from the
    host's; `vnc_display` the first that is free, for a VNC server that may have any,
    and `spice_port` a port for SPICE; `incoming` tells that memory is to be loaded before the
    guest runs.
    """

    numbers: Mapping[str, int]
    now: int = 0
    vnc_display: int = 0
    incoming: bool = False
    spice_port: int = 5901

    @classmethod
    def from_numbers(
        cls, plan: MachinePlan, numbers: Iterator[int] | None = None, now: int = 0
    ) -> Handles:
        """Stand-ins that no file is behind: for showing a command line."""
        numbers = numbers or count(3)
        names = [name for handle in find_handles(plan) for name in find_names(handle)]
        return cls({name: next(numbers) for name in names}, now)

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    def find(self, name: str) -> int | None:
        """A descriptor; None if none is needed by that name."""
        return self.numbers.get(name)

    def find_all(self, prefix: str) -> tuple[int, ...]:
        """The descriptors whose names begin so and end in a number."""
        names = (f"{prefix}{number}" for number in count())
        found = itertools.takewhile(lambda name: name in self.numbers, names)
        return tuple(self.numbers[name] for name in found)

    @property
    def fds(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(self.numbers.values())
