"""Whoever dies at whichever step of work on disks: nothing is lost, nothing is left over."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from writer import (
    check_images,
    make_document,
    read_records,
    start_writing,
    stop_writing,
    verify,
)

from qorch.block_client import BlockClient
from qorch.testing import Host

pytestmark = [pytest.mark.live, pytest.mark.slow]

POOL = """
    [pool.other]
    path = "{path}"
"""


def ignore(_line: object) -> None:
    """Take no notice of progress."""


def ask_qemu(host: Host, command: str, **arguments: Any) -> Any:
    """One command on the monitor that is left free for people."""
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(host.state.machine_run("web"))  # a path of any length
        sock.connect("monitor.sock")
        os.chdir("/")
        lines = sock.makefile("rw")
        lines.readline()
        for name, values in (("qmp_capabilities", {}), (command, arguments)):
            lines.write(json.dumps({"execute": name, "arguments": values}) + "\n")
            lines.flush()
            while "return" not in (answer := json.loads(lines.readline())):
                assert "error" not in answer, answer
    return answer["return"]


def settle(host: Host) -> None:
    """Wait until the next supervisor has ended what the one before it began."""
    client = host.client
    journal = host.state.data / "images" / "web.journal"
    client.find_machines()
    while journal.exists():
        BlockClient(client).find_jobs()


def check(host: Host, newest: int) -> None:
    """The guest has all it wrote, images are sound, and nothing lies about that nobody knows."""
    web = host.machine("web")
    if web.show()["state"] != "running":
        host.client.start_machine("web", report=ignore, wait=180)
    assert set(verify(web).values()) == {newest}
    shown = web.show()["disks"]
    known = {path for disk in shown for path in (disk["path"], *disk["backing"])}
    for row in BlockClient(host.client).find_snapshots("web"):
        known |= set(row["disks"].values())
    pools = (host.state.default_pool, host.directory / "other")
    files = {str(path) for pool in pools if pool.is_dir() for path in pool.iterdir()}
    assert files <= known
    check_images(*(Path(path) for path in files if path.endswith("qcow2")))
    for disk in shown:
        nodes = ask_qemu(host, "query-block")
        (top,) = [node for node in nodes if f"{disk['id']}-dev" in node["qdev"]]
        assert Path(disk["path"]).name in json.dumps(top["inserted"]["file"])
    nodes = ask_qemu(host, "query-named-block-nodes")
    images = {Path(node["file"]).name for node in nodes if node["drv"] == "file"}
    assert images == {
        Path(path).name for disk in shown for path in (disk["path"], *disk["backing"])
    }


def kill_at(host: Host, number: int, method: str, *arguments: Any, qemu: bool) -> list[str]:
    """Do something to disks in a supervisor that dies at a step; the steps it came to."""
    pid = host.machine("web").show()["pid"]
    host.kill_supervisor()
    script = Path(__file__).with_name("embedded_block.py")
    words = (script, host.directory, number, method, json.dumps(arguments))
    done = host.run(sys.executable, *words, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    if qemu and done.returncode:
        os.kill(pid, signal.SIGKILL)
    settle(host)
    return done.stdout.splitlines() if done.returncode else []


def prepare(host: Host, bios: Path) -> int:
    """A machine whose guest has written some records, all of them flushed; the newest one."""
    text = make_document(bios) + POOL.format(path=host.directory / "other")
    host.up(text)
    web = host.machine("web")
    start_writing(web)
    newest = stop_writing(web)
    ask_qemu(host, "stop")  # flushes
    ask_qemu(host, "cont")
    return newest


def at_each_step(do: Callable[[int], list[str]]) -> int:
    """Do it with a death at the first step, at the second one, …, until it lives to its end."""
    number = 1
    while do(number):
        number += 1
    return number - 1


@pytest.mark.parametrize("qemu", [False, True], ids=["supervisor", "qemu too"])
def test_snapshot(qorch_host: Host, bios: Path, qemu: bool) -> None:
    """A snapshot is there as a whole, or not at all."""
    newest = prepare(qorch_host, bios)

    def do(number: int) -> list[str]:
        steps = kill_at(qorch_host, number, "create_snapshot", "web", f"s{number}", {}, qemu=qemu)
        check(qorch_host, newest)
        return steps

    assert at_each_step(do) >= 8


@pytest.mark.parametrize("qemu", [False, True], ids=["supervisor", "qemu too"])
def test_remove(qorch_host: Host, bios: Path, qemu: bool) -> None:
    """A merge that was cut short is done by whoever comes next."""
    newest = prepare(qorch_host, bios)
    block = BlockClient(qorch_host.client)

    def do(number: int) -> list[str]:
        block.create_snapshot("web", f"s{number}", report=ignore)
        steps = kill_at(qorch_host, number, "remove_snapshot", "web", f"s{number}", {}, qemu=qemu)
        check(qorch_host, newest)
        return steps

    assert at_each_step(do) >= 8


@pytest.mark.parametrize("qemu", [False, True], ids=["supervisor", "qemu too"])
def test_move(qorch_host: Host, bios: Path, qemu: bool) -> None:
    """A disk is in one pool or in the other, as a whole."""
    newest = prepare(qorch_host, bios)
    web = qorch_host.machine("web")

    def do(number: int) -> list[str]:
        path = Path(web.show()["disks"][1]["path"])
        pool = "other" if path.parent == qorch_host.state.default_pool else "default"
        steps = kill_at(qorch_host, number, "move_disk", "web", "disk1", {"pool": pool}, qemu=qemu)
        check(qorch_host, newest)
        return steps

    assert at_each_step(do) >= 8


def test_revert(qorch_host: Host, bios: Path) -> None:
    """Going back is done as a whole, or not at all."""
    newest = prepare(qorch_host, bios)
    block = BlockClient(qorch_host.client)
    block.create_snapshot("web", "s1", report=ignore)

    def do(number: int) -> list[str]:
        steps = kill_at(qorch_host, number, "revert_snapshot", "web", "s1", {}, qemu=False)
        check(qorch_host, newest)
        return steps

    assert at_each_step(do) >= 8


@pytest.mark.parametrize("qemu", [False, True], ids=["supervisor", "qemu too"])
def test_backup(qorch_host: Host, bios: Path, tmp_path: Path, qemu: bool) -> None:
    """A backup is there as a whole, or not at all."""
    newest = prepare(qorch_host, bios)
    directory = tmp_path / "backups"
    block = BlockClient(qorch_host.client)

    def do(number: int) -> list[str]:
        options = {"directory": str(directory)}
        steps = kill_at(qorch_host, number, "create_backup", "web", options, qemu=qemu)
        check(qorch_host, newest)
        complete = [row["id"] for row in block.find_backups("web", str(directory))]
        there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
        assert there == complete
        for id_ in complete:
            assert read_records(directory / id_ / "disk1.qcow2", "qcow2", tmp_path) == newest
        return steps

    assert at_each_step(do) >= 6
