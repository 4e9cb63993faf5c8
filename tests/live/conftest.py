"""Guests for the live tests, built once by scripts/guest."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qorch.testing import Host, open_host

ROOT = Path(__file__).parents[2]


def _build(name: str) -> Path:
    done = subprocess.run(
        [ROOT / "scripts" / "guest", name], check=True, capture_output=True, text=True
    )
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def bios() -> Path:
    """The directory of the real-mode guest."""
    return _build("bios")


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The directory of the busybox guest."""
    return _build("tiny")


@pytest.fixture(scope="session")
def devices() -> Path:
    """The directory of the busybox guest that has all drivers."""
    return _build("devices")


@pytest.fixture(scope="session")
def debian() -> Path:
    """The directory of the Debian guest."""
    return _build("debian")


@pytest.fixture(scope="session")
def testbed() -> Path:
    """The directory of the test VM."""
    return _build("testbed")


@pytest.fixture
def bios_disk(bios: Path, tmp_path: Path) -> Path:
    """A disk of its own with the real-mode guest on it."""
    return Path(shutil.copy(bios / "disk.img", tmp_path / "bios.raw"))


if "TESTBED" in os.environ:  # where a supervisor takes half a minute to start

    @pytest.fixture(scope="session")
    def shared_host() -> Iterator[Host]:
        """The one host in the test VM."""
        with open_host() as host:
            yield host

    @pytest.fixture
    def qorch_host(shared_host: Host) -> Iterator[Host]:
        """The same, on which each test leaves nothing to the next."""
        yield shared_host
        shared_host.clear()
