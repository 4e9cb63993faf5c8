"""A running machine: QEMU's process, its monitor, its console, and how it ends."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from qorch.agent import Agent, open_agent
from qorch.argv import make_cpu_devices
from qorch.block.record import Saved
from qorch.console import Console, open_console, read_tail
from qorch.errors import AgentError, MachineError
from qorch.helper import make_helpers
from qorch.helpers import end_helper
from qorch.migration import load_memory
from qorch.paths import StateDir
from qorch.plan import MachinePlan
from qorch.process import CURES, Process, describe_end
from qorch.qmp import (
    CommandError,
    Event,
    EventsLostError,
    Listener,
    Monitor,
    QmpError,
    Transcript,
    open_monitor,
)
from qorch.spec import LinkState

_BUTTON_AGAIN = 5.0  # seconds; a guest that was still booting has not felt the button
_LADDER_STEP = 5.0  # seconds for QEMU to obey `quit`, and SIGTERM after it


class State(enum.Enum):
    """What a machine is doing, for people."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    SAVED = "saved"
    CRASHED = "crashed"


# QEMU's RunState (qapi/run-state.json); all others are paused in one way or another
_STATES = {
    "prelaunch": State.STARTING,
    "inmigrate": State.STARTING,
    "running": State.RUNNING,
    "shutdown": State.STOPPING,
    "guest-panicked": State.CRASHED,
    "internal-error": State.CRASHED,
}
_BEFORE_THE_GUEST = ("prelaunch", "inmigrate")
_STATUS_EVENTS = {"STOP", "RESUME", "SHUTDOWN", "GUEST_PANICKED", "RESET", "SUSPEND", "WAKEUP"}


@attrs.frozen
class Vcpu:
    """A virtual CPU and the host thread that runs it."""

    index: int
    thread_id: int


@attrs.frozen
class Memory:
    """Saved memory that a machine goes on from; `note` stores how far that has come, None at last.

    Before the guest runs it is noted that it may have: the memory must not be loaded twice.
    """

    saved: Saved
    note: Callable[[Saved | None], None]


@attrs.define(eq=False)
class Machine:
    """A machine whose QEMU runs, or has just ended."""

    plan: MachinePlan
    paths: StateDir
    process: Process
    on_event: Callable[[str, dict[str, object]], None]
    transcript: Transcript | None = None
    helpers: Mapping[str, Process] = attrs.field(factory=dict)
    memory: Memory | None = None
    status: str = "prelaunch"
    vcpus: tuple[Vcpu, ...] = ()
    vnc_port: int | None = None
    spice_port: int | None = None
    stopping: bool = False
    exit_status: int | None = None
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    _monitor: Monitor | None = attrs.field(default=None, init=False)
    _console: Console | None = attrs.field(default=None, init=False)

    @property
    def state(self) -> State:
        """What it is doing."""
        if self.ended.is_set():
            return State.CRASHED if self.has_crashed else State.STOPPED
        if self.stopping:
            return State.STOPPING
        return _STATES.get(self.status, State.PAUSED)

    @property
    def has_crashed(self) -> bool:
        """Whether it ended in a way that nobody asked for."""
        return not self.stopping and self.exit_status not in (0, None)

    @property
    def lost_helpers(self) -> tuple[str, ...]:
        """The helpers that it runs without: QEMU 7.2 takes no other in the place of one."""
        alive = {id_ for id_, helper in self.helpers.items() if helper.is_alive}
        return tuple(item.id for item in make_helpers(self.plan) if item.id not in alive)

    @property
    def monitor(self) -> Monitor:
        """QMP. Raises MachineError if QEMU is not connected."""
        if self._monitor is None:
            raise MachineError(f"{self.plan.name} is not running", f"qorch start {self.plan.name}")
        return self._monitor

    @property
    def console(self) -> Console:
        """Qorch's own console. Raises MachineError if there is none, or QEMU is not connected."""
        if not self.plan.console.is_there:
            raise no_console(self.plan.name)
        if self._console is None:
            raise MachineError(f"{self.plan.name} is not running", f"qorch start {self.plan.name}")
        return self._console

    @asynccontextmanager
    async def open_agent(self) -> AsyncIterator[Agent]:
        """Talk to the guest agent. Raises AgentError, at once where the guest has none open."""
        if not self.plan.guest_agent:
            raise AgentError(f"{self.plan.name} has no guest agent", "guest_agent = true")
        chardevs = await self.monitor.execute("query-chardev")
        if not any(dev["label"] == "agent" and dev["frontend-open"] for dev in chardevs):
            raise AgentError(
                f"no guest agent runs in {self.plan.name}",
                "qemu-guest-agent has to be installed in the guest, and needs time to come up",
            )
        async with open_agent(self.paths.machine_run(self.plan.name) / "agent.sock") as agent:
            yield agent

    @property
    def last_words(self) -> str:
        """The end of what QEMU wrote to its standard error."""
        return read_tail(self.paths.machine_data(self.plan.name) / "qemu.log")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, pin, let the guest run, and watch until QEMU ends.

        Started when the guest runs. If the task is cancelled, QEMU runs on. Raises MachineError
        with QEMU's last words if it dies before that.
        """
        try:
            async with AsyncExitStack() as stack:
                await self._connect(stack)
                await self._settle()
                task_status.started()
                await self._watch()
        except (QmpError, OSError) as error:  # OSError: gone before we could connect
            with trio.move_on_after(1):
                await self.wait_exit()
            raise self._explain(error) from error
        finally:
            self._monitor = self._console = None

    @property
    def _hint(self) -> str | None:
        """What to do if it does not run."""
        if self.memory is None:
            return None
        words = f"{self.plan.name} {self.memory.saved.snapshot}"
        return f"without its memory: qorch snapshot revert --disks-only {words}"

    def _explain(self, error: Exception) -> MachineError:
        """Why its guest does not run: how QEMU ended and what it said, or what it refuses."""
        name = self.plan.name
        if not self.ended.is_set():
            return MachineError(f"QEMU for {name}: {error}", self._hint)
        how, words = describe_end(self.exit_status), self.last_words
        log = self.paths.machine_data(name) / "qemu.log"
        hint = self._hint or CURES.get(self.exit_status) or f"all it said is in {log}"
        return MachineError(f"QEMU for {name} ended, {how}: {words or error}", hint)

    async def _connect(self, stack: AsyncExitStack) -> None:
        run, data = self.paths.machine_run(self.plan.name), self.paths.machine_data(self.plan.name)
        if self.plan.console.is_there:
            self._console = await stack.enter_async_context(
                open_console(run / "console.sock", data / "console.log", self.plan.log_size)
            )
        self._monitor = await stack.enter_async_context(
            open_monitor(run / "qmp.sock", transcript=self.transcript)
        )

    async def _settle(self) -> None:
        """Check that it is the machine we think it is, pin its vCPUs, let it run."""
        uuid = (await self.monitor.execute("query-uuid"))["UUID"]
        if uuid != str(self.plan.uuid):
            raise MachineError(
                f"the QEMU of {self.plan.name} says its UUID is {uuid}",
                "another program has bound its monitor's socket: is a second QEMU in its place?",
            )
        await self._ask_status()
        if self.status in _BEFORE_THE_GUEST:
            await self._plug_vcpus()
        vcpus = await self.monitor.execute("query-cpus-fast")
        self.vcpus = tuple(Vcpu(vcpu["cpu-index"], vcpu["thread-id"]) for vcpu in vcpus)
        await self._pin()
        await self._find_ports()
        await self._set_balloon()
        if self.memory is not None:
            await self._go_on_from(self.memory)
            await self._ask_status()
        if self.status == "prelaunch":
            await self._unplug_cables()
            await self.monitor.execute("cont")
            await self._ask_status()

    async def _plug_vcpus(self) -> None:
        """Those that can be unplugged, but for the ones that are there already."""
        devices = list(make_cpu_devices(self.plan))
        vcpus = await self.monitor.execute("query-cpus-fast") if devices else []
        there = {vcpu["qom-path"] for vcpu in vcpus}
        for device in devices:
            if f"/machine/peripheral/{device.id}" not in there:
                await self.monitor.execute("device_add", device.properties())

    async def _go_on_from(self, memory: Memory) -> None:
        """Load what was saved, unless it is, and let the guest run if it did then."""
        if not memory.saved.loaded:
            await self._load(memory.saved)
        memory.note(attrs.evolve(memory.saved, loaded=True))
        if memory.saved.runs:
            await self.monitor.execute("cont")
        memory.note(None)

    async def _load(self, saved: Saved) -> None:
        try:
            fd = os.open(saved.memory, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise MachineError(
                f"the memory of {self.plan.name} in {saved.memory}: {error.strerror}", self._hint
            ) from error
        try:
            await load_memory(self.monitor, fd)
        finally:
            os.close(fd)

    async def _pin(self) -> None:
        """Pin vCPUs, I/O threads, and all other threads of QEMU, each to its own host CPUs."""
        spec = self.plan.cpu.spec
        pins = {thread.id: thread.pin for thread in self.plan.iothreads if thread.pin is not None}
        threads = {}
        if self.plan.iothreads and (pins or spec.emulator_pin is not None):
            found = await self.monitor.execute("query-iothreads")
            threads = {thread["id"]: thread["thread-id"] for thread in found}
        if spec.emulator_pin is not None:
            special = {vcpu.thread_id for vcpu in self.vcpus} | set(threads.values())
            for thread in set(self.process.find_threads()) - special:
                self.process.set_affinity(thread, spec.emulator_pin)
        for vcpu, pin in zip(self.vcpus, spec.pin, strict=False):
            if pin:
                self.process.set_affinity(vcpu.thread_id, pin)
        for name, cpus in pins.items():
            self.process.set_affinity(threads[name], cpus)

    async def _find_ports(self) -> None:
        """Which ports of screens they are that were free at the start."""
        if self.plan.spice is not None and self.plan.spice.wants_port:
            self.spice_port = (await self.monitor.execute("query-spice")).get("port")
        if self.plan.vnc is not None and self.plan.vnc.spec.port is None:
            server = await self.monitor.execute("query-vnc")
            service = str(server.get("service", ""))  # a Unix socket's is its path
            self.vnc_port = int(service) if service.isdigit() else None

    async def _set_balloon(self) -> None:
        """How often the guest tells what it uses; a property that cannot be given at the start."""
        balloon = self.plan.balloon
        if balloon is not None and balloon.spec.stats_interval:
            await self.monitor.execute(
                "qom-set",
                {
                    "path": f"/machine/peripheral/{balloon.id}",
                    "property": "guest-stats-polling-interval",
                    "value": balloon.spec.stats_interval,
                },
            )

    async def _unplug_cables(self) -> None:
        """Links that are down; the command line has no word for it."""
        for nic in self.plan.nics:
            if nic.spec.link is LinkState.DOWN:
                await self.monitor.execute("set_link", {"name": f"{nic.id}-dev", "up": False})

    async def _watch(self) -> None:
        with self.monitor.listen() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_events, events)
                if self._console is not None:
                    nursery.start_soon(self._console.run)
                for name, helper in self.helpers.items():
                    nursery.start_soon(self._watch_helper, name, helper)
                await self.wait_exit()
                nursery.cancel_scope.cancel()

    async def _watch_helper(self, name: str, helper: Process) -> None:
        """Tell when a helper ends before its machine."""
        status = await helper.wait()
        if not self.ended.is_set():
            self.on_event("HELPER_ENDED", {"helper": name, "status": status})

    async def end_helpers(self) -> None:
        """End the helpers of a machine that has ended."""
        for helper in self.helpers.values():
            await end_helper(helper)

    async def wait_exit(self) -> None:
        """Wait until QEMU is gone; only one task may."""
        self.exit_status = await self.process.wait()
        self.ended.set()

    async def _follow_events(self, events: Listener) -> None:
        """Keep the status; a monitor that is lost leaves the rest to the pidfd."""
        try:
            while not await self._follow_until_gap(events):
                await self._ask_status()
        except QmpError as error:
            self.on_event("MONITOR_LOST", {"reason": error.message})

    async def _follow_until_gap(self, events: Listener) -> bool:
        """Whether the events have ended; False where some were lost because there were too many."""
        try:
            async for event in events:
                await self._take(event)
        except EventsLostError as error:
            self.on_event("EVENTS_LOST", {"count": error.count})
            return False
        return True

    async def _take(self, event: Event) -> None:
        """The state is the new one when the event is told."""
        try:
            if event.name in _STATUS_EVENTS:
                await self._ask_status()
        finally:
            self.on_event(event.name, dict(event.data))

    async def _ask_status(self) -> None:
        self.status = (await self.monitor.execute("query-status"))["status"]

    async def stop(self, grace: float) -> None:
        """End it: ACPI power button, `quit`, SIGTERM, SIGKILL, each if the one before fails.

        The guest has `grace` seconds after the power button; with 0 it is not asked. A guest that
        is paused cannot hear the button and is not asked either.
        """
        if grace > 0 and self.state is State.RUNNING:
            self.stopping = True
            with trio.move_on_after(grace):
                while not self.ended.is_set():
                    await self._ask_powerdown()
                    with trio.move_on_after(_BUTTON_AGAIN):
                        await self.ended.wait()
        self.stopping = True
        for rung in (self._quit, self._terminate):
            if self.ended.is_set():
                return
            with trio.move_on_after(_LADDER_STEP):
                await rung()
                await self.ended.wait()
        if not self.ended.is_set():
            self.process.send_signal(signal.SIGKILL)
            await self.ended.wait()

    async def kill(self) -> None:
        """End QEMU at once; for one that `run` has given up on."""
        self.process.send_signal(signal.SIGKILL)
        await self.wait_exit()

    async def _ask_powerdown(self) -> None:
        try:
            await self.monitor.execute("system_powerdown")
        except (CommandError, MachineError) as error:
            self.on_event("POWERDOWN_FAILED", {"reason": str(error)})
        except QmpError:
            pass  # QEMU is ending already

    async def _quit(self) -> None:
        try:
            await self.monitor.quit()
        except (QmpError, MachineError):
            await self._terminate()

    async def _terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def no_console(name: str) -> MachineError:
    """What is said to whoever wants the console of a machine that has none."""
    return MachineError(
        f"{name} has no console of qorch's own",
        f'[vm.{name}.console] device = "isa-serial" gives it one',
    )
