"""A machine's task: what goes wrong in it is that machine's, and nobody else's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from qorch.errors import MachineError
from qorch.paths import StateDir
from qorch.state import Store
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.events import Events
from qorch.supervisor.machines import Machines, _Launch


class FakeMachine:
    """A machine whose task fails in a way that nobody foresaw, before or after it has started."""

    def __init__(self, *, starts):
        self.plan = SimpleNamespace(name="web", taps=())
        self.process = SimpleNamespace(close=lambda: None)
        self.ended, self.exit = trio.Event(), trio.Event()
        self.starts, self.killed = starts, False
        self.has_crashed, self.exit_status, self.last_words = False, 0, ""

    async def run(self, *, task_status):
        """Fail."""
        if self.starts:
            task_status.started()
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("of a nursery", [KeyError("status")])

    async def wait_exit(self):
        """QEMU is gone."""
        await self.exit.wait()
        self.ended.set()

    async def kill(self):
        """End QEMU."""
        self.killed = True
        self.ended.set()

    async def end_helpers(self):
        """There are none."""


@pytest.fixture
def machines(tmp_path):
    """The machines of an empty state directory."""
    state = StateDir.from_directory(tmp_path)
    send, _receive = trio.open_memory_channel(0)
    store = Store(state)
    return Machines(state, Path("qemu"), None, send, store, Definitions(store), Events())


async def test_a_guest_that_runs_outlives_what_its_task_dies_of(machines, nursery):
    """It runs on unwatched, which is told, and its end is cleaned up after."""
    machine = FakeMachine(starts=True)
    with machines._events.listen("web") as told:
        nursery.start_soon(machines._run, _Launch(machine))
        with trio.fail_after(60):
            lost = await told.receive()
        assert (lost["event"], machine.killed) == ("MONITOR_LOST", False)
        await wait_all_tasks_blocked()
        machine.exit.set()
        with trio.fail_after(60):
            assert (await told.receive())["event"] == "STOPPED"


async def test_a_start_that_dies_of_what_nobody_foresaw_is_an_error(machines):
    """QEMU is ended, and whoever started it is told."""
    machine = FakeMachine(starts=False)
    launch = _Launch(machine)
    with trio.fail_after(60):
        await machines._run(launch)
    assert machine.killed
    assert launch.settled.is_set()
    assert isinstance(launch.error, MachineError)
    assert "internal error" in launch.error.message


def test_a_damaged_record_of_what_runs_is_told(machines):
    """The machine is taken for what is defined; the others are adopted as ever."""
    plan = SimpleNamespace(name="web")
    told = []
    assert machines._read_run("web", told.append) is None
    machines._definitions._machines["web"] = SimpleNamespace(plan=plan)
    assert machines._read_run("web", told.append) is None
    record = machines.state.machine_run("web") / "plan.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"half": ')
    assert told == []
    assert machines._read_run("web", told.append) is plan
    assert str(record) in told[0].message
