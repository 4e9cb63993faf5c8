"""The test VM has what the tests in it are there for: a feature that is missing is an error."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qorch.probe import find_kvm

pytestmark = pytest.mark.testbed

VHOST_SET_OWNER = 0xAF01  # linux/vhost.h
DM_VERSION = 0xC138FD00  # linux/dm-ioctl.h


def run(*words: str) -> str:
    """What a program prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def uplink() -> Iterator[str]:
    """An Ethernet interface."""
    run("ip", "link", "add", "tb-up", "type", "dummy")
    yield "tb-up"
    run("ip", "link", "del", "tb-up")


def test_vlan_interfaces(uplink: str) -> None:
    """It has VLAN sub-interfaces."""
    run("ip", "link", "add", "link", uplink, "name", "tb-up.10", "type", "vlan", "id", "10")
    assert "vlan protocol 802.1Q id 10" in run("ip", "-d", "link", "show", "tb-up.10")


def test_vlan_filtering(uplink: str) -> None:
    """It has bridges that filter VLANs."""
    run("ip", "link", "add", "tb-br", "type", "bridge", "vlan_filtering", "1")
    run("ip", "link", "set", uplink, "master", "tb-br")
    run("bridge", "vlan", "add", "dev", uplink, "vid", "20", "pvid", "untagged")
    assert "20 PVID Egress Untagged" in run("bridge", "vlan", "show", "dev", uplink)
    run("ip", "link", "del", "tb-br")


def test_vhost() -> None:
    """It has vhost-net."""
    fd = os.open("/dev/vhost-net", os.O_RDWR)
    fcntl.ioctl(fd, VHOST_SET_OWNER)
    os.close(fd)


def test_device_mapper() -> None:
    """It has device-mapper, which LVM needs, and loop devices for it to lie on."""
    fd = os.open("/dev/mapper/control", os.O_RDWR)
    version = bytearray((4).to_bytes(4, "little") + bytes(8) + (312).to_bytes(4, "little"))
    fcntl.ioctl(fd, DM_VERSION, version + bytes(296))
    os.close(fd)
    run("modprobe", "dm_thin_pool")
    run("losetup", "--find")


def test_nbd() -> None:
    """It has network block devices."""
    run("modprobe", "nbd")
    assert Path("/dev/nbd0").is_block_device()


def test_cgroups() -> None:
    """It has cgroup v2 with the controllers that limit machines."""
    controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(controllers)


def test_kvm() -> None:
    """It has a KVM that runs ordinary guests."""
    assert find_kvm().usable
