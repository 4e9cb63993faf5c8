"""Who has an image open is known, and said by name."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager

import pytest

from qorch_storage.errors import StorageError
from qorch_storage.locks import (
    check_not_written,
    check_unused,
    check_writable,
    find_holders,
    is_used,
    is_writable,
    is_written,
)


@contextmanager
def open_qemu(path, *, read_only=False, mark=None):
    """A QEMU that has an image open."""
    node = {"driver": "qcow2", "node-name": "d", "read-only": read_only}
    node["file"] = {"driver": "file", "filename": str(path)}
    words = ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-machine", "none"]
    words += ["-blockdev", json.dumps(node), "-qmp", "stdio"]
    device = {"driver": "virtio-blk-pci", "drive": "d", "share-rw": False}
    words[words.index("none", 3)] = "none"
    words[words.index("-machine") + 1] = "q35,accel=tcg"
    words += ["-device", json.dumps(device)]
    env = os.environ | ({"QORCH_OWNER": mark} if mark else {})
    with subprocess.Popen(words, env=env, stdin=-1, stdout=-1, text=True) as qemu:
        try:
            json.loads(qemu.stdout.readline())  # it has opened all by the time that it greets
            yield qemu
        finally:
            qemu.kill()


@pytest.fixture
def image(tmp_path, qemu_img):
    """A qcow2 image."""
    path = tmp_path / "a b.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    return path


def test_nobody(image, tmp_path):
    """An image that nobody has open is free, also if some program reads it, or it is not there."""
    with image.open("rb"):
        for path in (image, tmp_path / "none"):
            assert not is_used(path)
            assert not is_written(path)
            assert is_writable(path)
    assert find_holders(tmp_path / "none") == ()


def test_machine_that_writes(image):
    """A machine that writes is named, with its pid, and how to stop it."""
    with open_qemu(image, mark="0123abcd:vm/web") as qemu:
        assert is_written(image)
        assert not is_writable(image)
        (holder,) = find_holders(image)
        assert (holder.pid, holder.machine) == (qemu.pid, "web")
        for check in (check_unused, check_writable, check_not_written):
            with pytest.raises(StorageError) as caught:
                check(image)
            message = f"{image} is in use by machine web (pid {qemu.pid})"
            assert caught.value.message == message
            assert caught.value.hint == "stop it first: qorch stop web"
    assert not is_used(image)


def test_qemu_that_reads(image):
    """One that only reads keeps others from writing, and from removing it."""
    with open_qemu(image, read_only=True) as qemu:
        assert is_used(image)
        assert not is_written(image)
        assert not is_writable(image)
        check_not_written(image)
        with pytest.raises(StorageError, match=rf"in use by qemu-system.* \(pid {qemu.pid}\)"):
            check_writable(image)


def test_by_another_path(image, tmp_path):
    """A link to an image in use is in use."""
    link = tmp_path / "link.qcow2"
    link.symlink_to(image)
    with open_qemu(image):
        assert is_used(link)
        assert len(find_holders(link)) == 1
