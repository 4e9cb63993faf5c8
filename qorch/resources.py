"""From a plan to a running QEMU: what it needs is opened here and inherited by it. Blocking.

Every step that touches the host has a name, told to `report` before it is done, and an undo. What
QEMU has inherited is closed on our side, so that it is gone with QEMU.
"""

from __future__ import annotations

import base64
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from qorch.argv import make_argv
from qorch.console import rotate_log
from qorch.errors import MachineError
from qorch.handles import (
    Connection,
    Credential,
    Handle,
    Handles,
    ListeningSocket,
    LogFile,
    Password,
    Tap,
    Vsock,
    find_handles,
    find_names,
)
from qorch.helpers import Running as Helping
from qorch.helpers import start_helpers
from qorch.paths import StateDir
from qorch.plan import DiskPlan, MachinePlan
from qorch.process import Process, start_process
from qorch.sockets import FIRST_DISPLAY_PORT, bind_unix, find_free_display
from qorch.spec import DEFAULT_POOL
from qorch.state import Store
from qorch.units import Name
from qorch.vsock import open_vsock
from qorch_net.plan import TapPlan
from qorch_storage.errors import StorageError
from qorch_storage.firmware import make_variable_store
from qorch_storage.locks import check_writable
from qorch_storage.plan import PoolPlan, VolumePlan
from qorch_storage.pool import make_pool
from qorch_storage.pools import Pools
from qorch_storage.seed import make_seed

StepReport = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Started:
    """A QEMU that was started, its helpers by their ids, and the volumes that were made for it."""

    process: Process
    helpers: Mapping[str, Process]
    volumes: tuple[tuple[PoolPlan, VolumePlan], ...] = ()


def start_qemu(
    plan: MachinePlan,
    *,
    state: StateDir,
    qemu: Path,
    env: Mapping[str, str],
    report: StepReport,
    incoming: bool = False,
) -> Started:
    """Start QEMU, paused, and its helpers. If anything fails, nothing of it is left.

    With `incoming` it waits for memory to be loaded. Raises MachineError, NetError or StorageError.
    """
    data = state.machine_data(plan.name)
    with ExitStack() as undo:
        pools = Pools.from_plans(find_pools(state).values())
        wanted = [(disk.pool, disk.volume) for disk in plan.disks if not disk.kept]
        made = [
            (pool, volume)
            for pool, volume in wanted
            if pool is not None and volume is not None and ensure_volume(pool, volume, report, undo)
        ]
        for disk in plan.disks:
            check_disk(disk, pools)
        data.mkdir(parents=True, exist_ok=True)
        if plan.firmware.variables is not None:
            state.machine_images(plan.name).parent.mkdir(parents=True, exist_ok=True)
        if plan.seed is not None:
            files = {name: text.encode() for name, text in plan.seed.files.items()}
            make_seed(plan.seed.path, files, report=report)
        undo.callback(remove_taps, plan)
        undo.callback(Store(state).forget_run, plan.name)
        Store(state).write_run(plan)
        make_store(plan, report, undo)
        helpers = start_helpers(plan, data=data, env=env, report=report, undo=undo)
        with (
            _open_connections(helpers) as connections,
            _open_handles(plan, state, report, connections) as (handles, lock),
            _open_log(data) as output,
        ):
            report("start qemu")
            process = start_process(
                make_argv(plan, attrs.evolve(handles, incoming=incoming), plan.emulator or qemu),
                mark=plan.mark,
                fds=(*handles.fds, lock),
                output=output,
                env=env,
            )
        undo.pop_all()
    return Started(
        process=process,
        helpers={name: helper.process for name, helper in helpers.items()},
        volumes=tuple(made),
    )


def make_store(plan: MachinePlan, report: StepReport, undo: ExitStack) -> None:
    """Make the machine's UEFI variable store unless it is there."""
    variables, template = plan.firmware.variables, plan.firmware.template
    if variables is None or template is None:
        return
    if make_variable_store(variables.path, variables.format, template, report=report):
        undo.callback(variables.path.unlink, missing_ok=True)


@contextmanager
def _open_connections(helpers: Mapping[str, Helping]) -> Iterator[dict[str, int]]:
    """Our ends of the connections to helpers, closed once QEMU has them."""
    try:
        yield {name: helper.connection.fileno() for name, helper in helpers.items()}
    finally:
        for helper in helpers.values():
            helper.connection.close()


def find_pools(state: StateDir) -> dict[Name, PoolPlan]:
    """The pools that are defined, and the built-in one."""
    default = PoolPlan(name=DEFAULT_POOL, path=state.default_pool, owner=state.owner)
    stored = {name: item.plan for name, item in Store(state).read_pools().items()}
    return {DEFAULT_POOL: default, **stored}


def check_disk(disk: DiskPlan, pools: Pools) -> None:
    """Refuse to write to an image that somebody else has open, or that others build on.

    QEMU's own locks refuse the first, too, but do not say who it is. Raises StorageError.
    """
    if not disk.chain or disk.read_only or not disk.path.exists():
        return
    if not disk.spec.shareable:
        check_writable(disk.path)
    if not pools.may_have_dependents(disk.path):
        return
    if dependents := pools.find_dependents(disk.path):
        names = ", ".join(f"{volume.pool}/{volume.name}" for volume in dependents)
        raise StorageError(
            f"{disk.path} is the backing file of {names}: writing to it would damage them",
            "use an overlay of it (backing = …), or set read_only",
        )


def remove_volumes(volumes: Iterable[tuple[PoolPlan, VolumePlan]]) -> None:
    """Remove volumes that were made for a machine that never ran. Raises StorageError."""
    for pool, volume in volumes:
        make_pool(pool).remove_volume(volume.name, volume.format)


def ensure_volume(pool: PoolPlan, volume: VolumePlan, report: StepReport, undo: ExitStack) -> bool:
    """Make a volume unless it is there, and tell whether it was made.

    One that was made here is removed again on failure.
    """
    place = make_pool(pool)
    existed = pool.volume_path(volume.name, volume.format).exists()
    place.ensure_volume(volume, report=report)
    if not existed:
        undo.callback(place.remove_volume, volume.name, volume.format)
    return not existed


@contextmanager
def _open_handles(
    plan: MachinePlan, state: StateDir, report: StepReport, connections: Mapping[str, int]
) -> Iterator[tuple[Handles, int]]:
    """All that QEMU inherits, and the lock that it holds as long as it lives."""
    run = state.machine_run(plan.name)
    with ExitStack() as stack:
        lock = _open(stack, run / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "another supervisor, or one before this, has started it: qorch ls"
            raise MachineError(f"{plan.name} is running already", hint) from None
        report("bind sockets")
        paths = _Surroundings(run, state.machine_data(plan.name), connections)
        numbers: dict[str, int] = {}
        for handle in find_handles(plan):
            opened = _open_handle(stack, handle, paths, report)
            numbers |= zip(find_names(handle), opened, strict=True)
        display, port = _find_display_ports(plan)
        yield Handles(numbers, int(time.time()), display, spice_port=port), lock


def _find_display_ports(plan: MachinePlan) -> tuple[int, int]:
    """A VNC display and a port for SPICE that are free, where any will do."""
    display, vnc = 0, plan.vnc
    if vnc is not None and vnc.socket is None and vnc.display is None:
        display = find_free_display(vnc.spec.listen or "127.0.0.1")
    port = FIRST_DISPLAY_PORT
    if plan.spice is not None and plan.spice.wants_port:
        first = 0 if vnc is None else (display if vnc.display is None else vnc.display) + 1
        port += find_free_display(plan.spice.spec.listen or "127.0.0.1", first)
    return display, port


@attrs.frozen
class _Surroundings:
    """Where a machine's sockets and its logs are, and its connections to helpers."""

    run: Path
    data: Path
    connections: Mapping[str, int]


def _open_handle(
    stack: ExitStack, handle: Handle, paths: _Surroundings, report: StepReport
) -> tuple[int, ...]:
    match handle:
        case ListeningSocket(name):
            return (stack.enter_context(bind_unix(paths.run / f"{name}.sock")).fileno(),)
        case LogFile(name, path, append):
            if path is None:
                rotate_log(paths.data / name)
            return (_open_appending(stack, path or paths.data / name, truncate=not append),)
        case Tap(_, tap):
            return _open_tap(stack, tap, report)
        case Vsock(_, cid):
            report(f"reserve CID {cid}")
            return (stack.enter_context(open_vsock(cid)),)
        case Credential() | Password():
            return (_open_secret(stack, handle),)
        case Connection(name):
            return (paths.connections[name],)


def _open_appending(stack: ExitStack, path: Path, *, truncate: bool = False) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (os.O_TRUNC if truncate else 0)
    try:
        return _open(stack, path, flags)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise MachineError(message, f"ls -ld {path.parent}") from error


def _open_secret(stack: ExitStack, secret: Credential | Password) -> int:
    """Secrets are kept in memory that only QEMU inherits."""
    match secret:
        case Credential(name, item):  # as systemd reads it of SMBIOS
            content = base64.b64encode(_read_secret(name, item.file))
            text = b"io.systemd.credential.binary:%s=%s" % (item.name.encode(), content)
        case Password(name, path):
            text = _read_secret(name, path).removesuffix(b"\n")  # which nobody could type
    fd = os.memfd_create(f"qorch-{name}"[:200], os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    os.write(fd, text)
    return fd


def _read_secret(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{name}: {path}: {error.strerror}"
        raise MachineError(message, "bring the file back, or correct its path") from error


def _open_tap(stack: ExitStack, tap: TapPlan, report: StepReport) -> tuple[int, ...]:
    from qorch_net.tap import open_tap  # noqa: PLC0415  pyroute2 takes 120 ms to import

    report(f"open tap {tap.name}")
    opened = stack.enter_context(open_tap(tap))
    return (*opened.queues, *opened.vhosts)


def remove_taps(plan: MachinePlan) -> None:
    """Remove what of a machine's taps does not end with QEMU. Raises NetError."""
    lasting = [tap for tap in plan.taps if tap.lasts]
    if lasting:
        from qorch_net.tap import remove_tap  # noqa: PLC0415

        for tap in lasting:
            remove_tap(tap)


def _open(stack: ExitStack, path: Path, flags: int) -> int:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, fd)
    return fd


@contextmanager
def _open_log(data: Path) -> Iterator[int]:
    """QEMU's own words, anew at each start."""
    with ExitStack() as stack:
        yield _open(stack, data / "qemu.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC)


def is_locked(state: StateDir, name: str) -> bool:
    """Whether a QEMU, or a child that is about to become one, holds the machine's lock."""
    try:
        fd = os.open(state.machine_run(name) / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
