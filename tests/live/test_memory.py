"""Snapshots with memory: a guest goes on from where it was, and its disks are what it saw last."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from free_monitor import ask_qemu
from reports import ignore
from writer import (
    check_images,
    make_document,
    read_records,
    start_writing,
    verify,
    wait_written,
)

from qorch.api import rendezvous
from qorch.block_client import BlockClient
from qorch.client import ClientError
from qorch.testing import Host

pytestmark = pytest.mark.live


def find_memory(host: Host) -> list[Path]:
    """The files of memory that are there."""
    return sorted((host.state.data / "images").glob("web.memory/*"))


def test_goes_on_from_memory(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """A guest that writes all the time goes on in the middle of it, also twice, also if stopped."""
    qorch_host.up(make_document(bios))
    web, block, client = (
        qorch_host.machine("web"),
        BlockClient(qorch_host.client),
        qorch_host.client,
    )
    start_writing(web)
    steps: list[str] = []
    block.create_snapshot("web", "s1", memory=True, report=lambda line: steps.append(str(line)))
    assert any("write memory" in step for step in steps)
    after = wait_written(web)
    (row,) = block.find_snapshots("web")
    assert row["memory"]
    assert "running memory" in qorch_host.qorch("snapshot", "ls", "web").stdout
    one, other = (read_records(Path(path), "qcow2", tmp_path) for path in row["disks"].values())
    assert 0 <= one - other <= 1
    assert other < after
    for running in (True, False):
        if not running:
            client.kill_machine("web", report=ignore)
        block.revert_snapshot("web", "s1", report=ignore)
        assert web.show()["state"] == "running"
        assert "GUEST-BOOT" not in web.console_log  # it has not booted, and writes on by itself
        newest = wait_written(web)
        assert min(verify(web).values()) >= newest
    assert not qorch_host.state.machine_saved("web").exists()
    (memory,) = find_memory(qorch_host)
    os.truncate(memory, memory.stat().st_size // 2)
    with pytest.raises(ClientError, match="load of migration failed") as caught:
        block.revert_snapshot("web", "s1", report=ignore)
    assert "--disks-only" in str(caught.value.hint)
    assert web.show()["state"] == "saved"
    with pytest.raises(ClientError, match="goes on from the memory"):
        block.remove_snapshot("web", "s1", report=ignore)
    block.revert_snapshot("web", "s1", memory=False, report=ignore)
    client.start_machine("web", report=ignore, wait=180)
    assert set(verify(web).values()) <= {one, other}
    block.remove_snapshot("web", "s1", report=ignore)
    assert find_memory(qorch_host) == []
    check_images(*qorch_host.state.default_pool.iterdir())


def kill_at(host: Host, step: str, method: str, *arguments: object, qemu: bool = False) -> None:
    """Do something in a supervisor that dies at a step; the next one settles it."""
    pid = host.machine("web").show()["pid"]
    host.kill_supervisor()
    script = Path(__file__).with_name("embedded_block.py")
    words = json.dumps(("web", *arguments))
    done = host.run(sys.executable, script, host.directory, step, method, words, check=False)
    assert done.returncode == -signal.SIGKILL, (step, done.stdout, done.stderr)
    if qemu:
        os.kill(pid, signal.SIGKILL)
    while (host.state.data / "images" / "web.journal").exists():
        host.client.find_machines()


@pytest.mark.slow
def test_killed(qorch_host: Host, bios: Path) -> None:
    """A snapshot is there with its memory or not at all; going back is done, or can be."""
    qorch_host.up(make_document(bios))
    web, block, client = (
        qorch_host.machine("web"),
        BlockClient(qorch_host.client),
        qorch_host.client,
    )
    start_writing(web)
    for step in ("write memory", "snapshot: note pivoting", "let the guest go on"):
        kill_at(qorch_host, step, "create_snapshot", "s1", {"memory": True})
        wait_written(web)
        known = [row["name"] for row in block.find_snapshots("web")]
        assert [path.name for path in find_memory(qorch_host)] == known
    assert known == ["s1"]
    kill_at(qorch_host, "switch to overlays", "create_snapshot", "s2", {"memory": True}, qemu=True)
    assert [path.name for path in find_memory(qorch_host)] == ["s1", "s2"]
    block.revert_snapshot("web", "s2", report=ignore)
    wait_written(web)
    for step in ("note memory", "load memory"):
        kill_at(qorch_host, step, "revert_snapshot", "s1", {})
        assert web.show()["state"] == "saved"
        client.start_machine("web", report=ignore, wait=180)
        newest = wait_written(web)
        assert min(verify(web).values()) >= newest
        assert "GUEST-BOOT" not in web.console_log


def test_of_a_paused_guest(qorch_host: Host, bios: Path) -> None:
    """A guest that was paused is so again, and goes on when it is resumed, its TPM with it."""
    document = make_document(bios).replace('accel = "tcg"', 'accel = "tcg"\n    tpm = "2.0"')
    qorch_host.up(document)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    start_writing(web)
    block.pause_machine("web", report=ignore)
    block.create_snapshot("web", "s1", memory=True, report=ignore)
    assert web.show()["state"] == "paused"
    block.create_snapshot("web", "s2", report=ignore)  # its images can be worked on again
    block.remove_snapshot("web", "s2", report=ignore)
    block.revert_snapshot("web", "s1", report=ignore)
    assert web.show()["state"] == "paused"
    block.resume_machine("web", report=ignore)
    newest = wait_written(web)
    assert min(verify(web).values()) >= newest


def test_cancelled(qorch_host: Host, bios: Path) -> None:
    """Writing memory is a job that is shown; cancelled, it leaves nothing, the guest goes on."""
    qorch_host.up(make_document(bios))
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    start_writing(web)
    capability = {"capability": "pause-before-switchover", "state": True}  # for ever, if we let it
    ask_qemu(qorch_host, "migrate-set-capabilities", capabilities=[capability])
    words = (*rendezvous.COMMAND, "--state-dir", str(qorch_host.directory), "snapshot", "create")
    command = (*words, "web", "s1", "--memory")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (rows := block.find_jobs()):
            pass
        assert [row["job"] for row in rows] == ["qorch-memory"]
        block.cancel_job("web")
        assert "cancelled" in process.communicate()[1]
    assert process.returncode == 1
    wait_written(web)
    assert find_memory(qorch_host) == []
    assert block.find_snapshots("web") == []


NVME = """
    [[vm.web.disk]]
    bus = "nvme"
    size = "1MiB"
"""


def test_refused(qorch_host: Host, bios: Path) -> None:
    """What cannot be saved is one clear error, and nothing is changed."""
    qorch_host.up(make_document(bios) + NVME)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    before = sorted(qorch_host.state.default_pool.iterdir())
    with pytest.raises(ClientError, match="nvme"):
        block.create_snapshot("web", "s1", memory=True, report=ignore)
    with pytest.raises(ClientError, match="freeze"):
        block.create_snapshot("web", "s1", memory=True, freeze=True, report=ignore)
    assert web.show()["state"] == "running"
    qorch_host.client.kill_machine("web", report=ignore)
    with pytest.raises(ClientError, match="does not run"):
        block.create_snapshot("web", "s1", memory=True, report=ignore)
    assert sorted(qorch_host.state.default_pool.iterdir()) == before
    assert find_memory(qorch_host) == []
    assert block.find_snapshots("web") == []
