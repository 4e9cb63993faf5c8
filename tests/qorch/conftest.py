"""The fake supervisor for the tests of the API, the client and the command line."""

import contextlib
import importlib.util
import os
import select
import signal
import sys
import threading
from pathlib import Path

import pytest

from qorch.api.rendezvous import open_listener
from qorch.paths import StateDir

_FAKE = Path(__file__).parent / "api" / "fake.py"


def _load_fake():
    spec = importlib.util.spec_from_file_location("qorch_fake_supervisor", _FAKE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FAKE = _load_fake()


@pytest.fixture
def fake():
    """The module with the fake supervisor."""
    return FAKE


@pytest.fixture
def fake_command():
    """What a client runs to start the fake supervisor."""
    return (sys.executable, str(_FAKE))


@pytest.fixture
def state(tmp_path):
    """A state directory; every supervisor started in it is gone after the test."""
    state = StateDir.from_directory(tmp_path)
    state.run.mkdir(mode=0o700)
    state.data.mkdir(mode=0o700)
    yield state
    for pid in started_pids(state):
        with contextlib.suppress(ProcessLookupError):
            end_process(pid)


@pytest.fixture
def served(state):
    """A running fake supervisor, and a function that calls others in its event loop."""
    threads = set(threading.enumerate())
    with FAKE.open_fake(state, open_listener(state.api_socket)) as (supervisor, call):
        yield supervisor, call
    left = {thread for thread in threading.enumerate() if "Trio thread" not in thread.name}
    assert left <= threads


def started_pids(state):
    """Every fake supervisor that was started as a process."""
    pids = state.data / "pids"
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def end_process(pid):
    """Kill a process and wait until it is gone."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
    finally:
        os.close(pidfd)


@pytest.fixture
def pids(state):
    """A function that lists the fake supervisors started as processes."""
    return lambda: started_pids(state)
