"""Who is the supervisor, while those who were take their files away."""

from __future__ import annotations

import os
import threading

import pytest

from qorch.api.rendezvous import Claim, meet
from qorch.errors import QorchError
from qorch.lock import try_lock
from qorch.paths import StateDir
from qorch.supervisor.open import _hold

ROUNDS = 300


def test_one_at_a_time(tmp_path):
    """A lock that somebody has is not had; closed, it is free."""
    path = tmp_path / "lock"
    fd = try_lock(path)
    assert try_lock(path) is None
    os.close(fd)
    os.close(try_lock(path))


def test_a_file_that_was_removed_locks_nothing(tmp_path):
    """What is locked is what lies at the path."""
    path = tmp_path / "lock"
    fd = try_lock(path)
    path.unlink()
    other = try_lock(path)
    assert os.path.samestat(os.fstat(other), path.stat())
    os.close(fd)
    os.close(other)


def test_meeting_those_who_leave(tmp_path):
    """Supervisors that come and go, and clients that claim their place, never trip each other."""
    state = StateDir.from_directory(tmp_path)
    ended, holders = threading.Event(), []

    def come_and_go():
        while not ended.is_set():
            try:
                with _hold(state):
                    holders.append("supervisor")
                    assert len(holders) == 1
                    holders.pop()
            except QorchError:
                continue

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(ROUNDS):
            claim = meet(state)
            assert isinstance(claim, Claim)
            holders.append("client")
            assert len(holders) == 1
            holders.pop()
            state.api_socket.unlink()  # as a supervisor does in the end
            claim.close()
    finally:
        ended.set()
        thread.join()


@pytest.fixture(autouse=True)
def _no_thread_failed(recwarn):
    """A thread that failed is a warning, and those are errors."""
    yield
    assert [str(warning.message) for warning in recwarn] == []
