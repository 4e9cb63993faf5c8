"""Snapshots of UEFI machines: the variable store is part of them, with and without QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from free_monitor import ask_qemu
from reports import ignore

from qorch.block_client import BlockClient
from qorch.testing import Host

pytestmark = pytest.mark.live

DOCUMENT = """
[vm.web]
memory = "64MiB"
accel = "tcg"
firmware = { type = "uefi" }

[[vm.web.disk]]
size = "1MiB"
"""
END = 0x83E00  # the last sector of the store: nothing of the firmware's own


def mark(host: Host, byte: int) -> None:
    """Write to the flash of a running machine, whose guest is paused."""
    node = next(
        block["inserted"]["node-name"]
        for block in ask_qemu(host, "query-block")
        if block["qdev"] == "/machine/system.flash1"
    )
    line = f'qemu-io {node} "write -P {byte} {END} 512"'
    assert ask_qemu(host, "human-monitor-command", command_line=line) == ""


def holds(image: str | Path, byte: int) -> bool:
    """Whether an image has the mark, by itself or by what it builds on."""
    words = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", f"read -P {byte} {END} 512", str(image)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "read 512" in done.stdout, done
    return "Pattern verification failed" not in done.stdout


def test_variables_are_part_of_snapshots(qorch_host: Host) -> None:
    """Each snapshot has the variables of its moment; merged, reverted, they stay with the disks."""
    qorch_host.up(DOCUMENT, wait=None)
    web, block, client = (
        qorch_host.machine("web"),
        BlockClient(qorch_host.client),
        qorch_host.client,
    )
    block.pause_machine("web", report=ignore)
    store = qorch_host.state.machine_variables("web", "qcow2")
    for name, byte, memory in (("s1", 0x11, False), ("s2", 0x22, True), ("s3", 0x33, False)):
        mark(qorch_host, byte)
        block.create_snapshot("web", name, memory=memory, report=ignore)
    mark(qorch_host, 0x44)
    for row, byte in zip(block.find_snapshots("web"), (0x11, 0x22, 0x33), strict=True):
        assert holds(row["disks"]["firmware-vars"], byte)
    block.remove_snapshot("web", "s1", report=ignore)  # below the top: committed in the middle
    block.revert_snapshot("web", "s2", report=ignore)
    assert web.show()["state"] == "paused"
    block.remove_snapshot("web", "s3", report=ignore)
    client.kill_machine("web", report=ignore)
    block.create_snapshot("web", "s4", report=ignore)  # offline
    block.revert_snapshot("web", "s2", memory=False, report=ignore)
    for name in ("s4", "s2"):
        block.remove_snapshot("web", name, report=ignore)
    assert holds(store, 0x22)
    assert [path.name for path in qorch_host.state.default_pool.iterdir()] == ["web-disk0.qcow2"]
    qorch_host.down(DOCUMENT, volumes=False)
    assert holds(store, 0x22)
    qorch_host.up(DOCUMENT, wait=None)
    qorch_host.down(DOCUMENT)
    assert list(store.parent.glob("*")) == []
