"""Guests for the live tests, built once by scripts/guest."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

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
