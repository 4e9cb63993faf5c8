"""Images made by the real qemu-img, and a pool that must be clean when a test ends."""

from __future__ import annotations

import json
import subprocess

import pytest

from qorch_storage.pool import DirPool


def qemu_img(*args):
    """Run qemu-img and return what it prints."""
    words = ["qemu-img", *map(str, args)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(name="qemu_img", scope="session")
def provide_qemu_img():
    """Run qemu-img; it must succeed."""
    return qemu_img


@pytest.fixture(scope="session")
def query():
    """Ask qemu-img what an image is."""
    return lambda path, image_format="qcow2": json.loads(
        qemu_img("info", "-f", image_format, "--output=json", path)
    )


@pytest.fixture
def base(tmp_path):
    """A raw image of 1 MiB to build on."""
    path = tmp_path / "base.raw"
    path.write_bytes(b"base" * (1 << 18))
    return path


@pytest.fixture
def pool(tmp_path):
    """A pool whose directory does not exist yet; no hidden file may be left in it."""
    pool = DirPool("default", tmp_path / "pool")
    yield pool
    assert list(pool.path.glob(".*")) == []
