"""Whoever dies at whichever step of work on disks: nothing is lost, nothing is left over."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from lives import Lives, Work, die_at_each_step, open_lives
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

WHO = ("supervisor", "both", "qemu")
MORE = """
    [[vm.web.disk]]
    device = "cdrom"
    bus = "scsi"

    [pool.other]
    path = "{path}"
"""


def ask_qemu(host: Host, command: str) -> Any:
    """One command on the monitor that is left free for people."""
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(host.state.machine_run("web"))  # a path of any length
        sock.connect("monitor.sock")
        os.chdir("/")
        lines = sock.makefile("rw")
        lines.readline()
        for name in ("qmp_capabilities", command):
            lines.write(json.dumps({"execute": name}) + "\n")
            lines.flush()
            while "return" not in (answer := json.loads(lines.readline())):
                assert "error" not in answer, answer
    return answer["return"]


@attrs.define(eq=False)
class Faults:
    """A machine that has written `newest` records, and supervisors that die."""

    host: Host
    lives: Lives
    newest: int
    scratch: Path
    given_up: set[str] = attrs.field(factory=set)
    _checked: set[tuple[Path, int]] = attrs.field(factory=set)

    def do(self, method: str, *words: str, **options: Any) -> None:
        """Work on disks in which nobody dies."""
        heard = self.lives.ask("work", method=method, words=words, options=options, seen=[])
        assert heard["answer"] is None, heard

    def names(self) -> list[str]:
        """The snapshots that there are."""
        return [row["name"] for row in self.lives.look()["snapshots"]]

    def check(self) -> None:
        """All that was written is there, images are sound, and nobody has others than are known."""
        assert not (self.host.state.data / "images" / "web.journal").exists()  # ended, or undone
        shown = self.lives.look()
        disks = [disk for disk in shown["disks"] if disk["path"]]
        if shown["state"] == "running":
            assert self.lives.ask("verify")["answer"] == [[self.newest, 0]] * 2
        else:
            for disk in disks[:2]:
                image = Path(disk["path"])
                assert read_records(image, disk["format"], self.scratch) == self.newest
            if shown["pid"] is None:
                self.lives.ask("start")
        chains = {path for disk in disks for path in (disk["path"], *disk["backing"])}
        self._check_files(chains, shown["snapshots"])
        self._check_qemu(chains, disks)

    def _check_files(self, known: set[str], snapshots: list[Any]) -> None:
        pools = (self.host.state.default_pool, self.host.directory / "other")
        known = known.union(*(row["disks"].values() for row in snapshots), self.given_up)
        files = {path for pool in pools if pool.is_dir() for path in pool.iterdir()}
        assert {str(path) for path in files} <= known
        assert all(Path(path).exists() for path in known)
        for path in files:
            if (
                path.suffix == ".qcow2"
                and (of := (path, path.stat().st_mtime_ns)) not in self._checked
            ):
                check_images(path)
                self._checked.add(of)

    def _check_qemu(self, chains: set[str], disks: list[Any]) -> None:
        blocks = ask_qemu(self.host, "query-block")
        for disk in disks:
            (top,) = (block for block in blocks if f"{disk['id']}-dev" in block["qdev"])
            assert Path(disk["path"]).name in json.dumps(top["inserted"]["file"])
            assert not top.get("tray_open")
        nodes = ask_qemu(self.host, "query-named-block-nodes")
        images = {Path(node["file"]).name for node in nodes if node["drv"] == "file"}
        assert images == {Path(path).name for path in chains}

    def die(self, who: str, method: str, *words: str, least: int, **more: Any) -> None:
        """Do it with a death at each of its steps, of which there are so many."""
        work = Work(method=method, words=more.pop("words", lambda: [*words]), **more)
        steps = die_at_each_step(self.lives, work, who, self.check)
        assert len(steps) >= least, steps


@contextmanager
def open_faults(host: Host, bios: Path, scratch: Path) -> Iterator[Faults]:
    """All of it is taken down, and the guest's data verified by itself once more, in the end."""
    host.up(make_document(bios) + MORE.format(path=host.directory / "other"))
    web = host.machine("web")
    start_writing(web)
    newest = stop_writing(web)
    ask_qemu(host, "stop")  # flushes
    ask_qemu(host, "cont")
    with open_lives(host, "web") as lives:
        yield Faults(host, lives, newest, scratch)
    host.client.start_machine("web", report=lambda _line: None)
    BlockClient(host.client).resume_machine("web", report=lambda _line: None)
    web.wait_console("^GUEST-UP")
    assert set(verify(web).values()) == {newest}


@pytest.fixture
def faults(qorch_host: Host, bios: Path, tmp_path: Path) -> Iterator[Faults]:
    """A machine to work on."""
    with open_faults(qorch_host, bios, tmp_path) as opened:
        yield opened


def test_snapshots(faults: Faults) -> None:
    """A snapshot is there as a whole, or not at all; a merge is done by whoever comes next."""
    numbers = itertools.count()

    def make_one() -> None:
        if not faults.names():
            faults.do("create_snapshot", f"s{next(numbers)}")

    for who in WHO:
        create, remove = lambda: [f"s{next(numbers)}"], lambda: faults.names()[:1]
        faults.die(who, "create_snapshot", words=create, least=7)
        faults.die(who, "remove_snapshot", words=remove, prepare=make_one, least=9)


def test_move(faults: Faults) -> None:
    """A disk is in one pool or in the other, as a whole."""
    default = faults.host.state.default_pool
    options: dict[str, str] = {}

    def choose() -> None:
        path = Path(faults.lives.look()["disks"][1]["path"])
        options["pool"] = "other" if path.parent == default else "default"

    for who in WHO:
        faults.die(who, "move_disk", "disk1", options=options, prepare=choose, least=8)


def test_revert_and_flatten(faults: Faults) -> None:
    """Going back is done as a whole or not at all; a flattened disk is so in the end."""
    faults.do("create_snapshot", "s1")

    def go_back() -> None:
        if len(faults.lives.look()["disks"][1]["backing"]) == 0:
            faults.do("revert_snapshot", "s1")
            faults.lives.ask("start")

    for who in WHO:
        faults.die(who, "revert_snapshot", "s1", least=8)
        faults.die(who, "flatten_disk", "disk1", prepare=go_back, least=3)


def test_backup_and_restore(faults: Faults, tmp_path: Path) -> None:
    """A backup is there as a whole, or not at all, and so is what comes back from it."""
    directory = tmp_path / "backups"
    options = {"directory": str(directory)}

    def empty() -> None:
        names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
        complete = {path.parent.name for path in directory.glob("*/backup.json")}
        assert names == complete
        for id_ in complete:
            assert read_records(directory / id_ / "disk1.qcow2", "qcow2", tmp_path) == faults.newest
            shutil.rmtree(directory / id_)

    for who in WHO:
        faults.die(who, "create_backup", options=options, prepare=empty, least=5)
    kill = lambda: faults.lives.ask("kill")  # noqa: E731
    options["backup_id"] = "0001"
    faults.given_up = {disk["path"] for disk in faults.lives.look()["disks"] if disk["path"]}
    faults.die("supervisor", "restore_backup", options=options, prepare=kill, least=7)


def test_medium(faults: Faults, tmp_path: Path) -> None:
    """A drive has the one medium or the other in it, and is closed."""
    options: dict[str, str] = {}
    paths = itertools.cycle(tmp_path / f"{letter}.iso" for letter in "ab")

    def change() -> None:
        path = next(paths)
        path.write_bytes(bytes(1 << 20))
        options["path"] = str(path)

    for who in WHO:
        faults.die(who, "change_medium", "disk2", options=options, prepare=change, least=3)
