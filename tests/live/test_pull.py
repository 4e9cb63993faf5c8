"""Backups pulled over NBD while the guest writes: exact to the moment, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from reports import ignore
from writer import (
    check_images,
    make_document,
    read_records,
    start_writing,
    stop_writing,
    verify,
    wait_written,
)

from qorch.api import rendezvous
from qorch.block_client import BlockClient
from qorch.client import ClientError
from qorch.testing import Host

pytestmark = pytest.mark.live


@contextmanager
def serving(host: Host, socket: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command line, serving; it is ended at the end of the block if it has not been."""
    words = (*rendezvous.COMMAND, "--state-dir", str(host.directory), "backup", "serve", "web")
    command = (*words, "--socket", str(socket), *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for disk in ("disk0", "disk1"):
                assert process.stdout.readline() == f"nbd+unix:///{disk}?socket={socket}\n"
            yield process
        finally:
            process.kill()


def pull(socket: Path, disk: str, target: Path) -> Path:
    """Copy a disk that is served."""
    source = f"nbd+unix:///{disk}?socket={socket}"
    words = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, str(target)]
    subprocess.run(words, check=True, capture_output=True)
    return target


def find_changed(socket: Path, disk: str) -> int:
    """The bytes of a disk that have changed since the checkpoint, as a client of NBD sees them."""
    options = f"driver=nbd,export={disk},server.type=unix,server.path={socket}"
    context = "x-dirty-bitmap=qemu:dirty-bitmap:qorch-since"
    words = ["qemu-img", "map", "--output=json", "--image-opts", f"{options},{context}"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return sum(part["length"] for part in json.loads(done.stdout) if not part["data"])


def check_gone(host: Host, socket: Path) -> None:
    """Nothing is served any more, no job goes on, no overlay is left, and the guest writes on."""
    journal = host.state.data / "images" / "web.journal"
    while journal.exists():
        host.client.find_machines()
    wait_written(host.machine("web"), 2)
    assert not socket.exists()
    assert BlockClient(host.client).find_jobs() == []
    names = sorted(path.name for path in host.state.default_pool.iterdir())
    assert names == ["web-disk0.qcow2", "web-disk1.qcow2"]


def test_pulled(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """What is read is what was there when it began; then what has changed since; whoever dies."""
    qorch_host.up(make_document(bios))
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    socket = tmp_path / "nbd.sock"
    start_writing(web)
    with serving(qorch_host, socket, "--checkpoint", "one") as process:
        wait_written(web)
        images = [pull(socket, f"disk{n}", tmp_path / f"{n}.qcow2") for n in (0, 1)]
        one, other = (read_records(image, "qcow2", tmp_path) for image in images)
        assert 0 <= one - other <= 1
        assert wait_written(web, 5) > one
        again = pull(socket, "disk1", tmp_path / "again.qcow2")
        assert read_records(again, "qcow2", tmp_path) == other
        with pytest.raises(ClientError, match="busy"):
            block.create_snapshot("web", "s1", report=ignore)
        block.end_export("web")
        assert process.wait() == 0
    check_gone(qorch_host, socket)
    newest = stop_writing(web)
    with serving(qorch_host, socket, "--since", "one", "--checkpoint", "two") as process:
        assert 0 < find_changed(socket, "disk1") < 1 << 25
        image = pull(socket, "disk1", tmp_path / "1.qcow2")
        assert read_records(image, "qcow2", tmp_path) == newest
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    start_writing(web)
    check_gone(qorch_host, socket)
    with serving(qorch_host, socket, "--since", "one"):  # still there: nobody said all was read
        qorch_host.kill_supervisor()
    check_gone(qorch_host, socket)
    for options, message in (
        ({"since": "two"}, "not known"),
        ({"checkpoint": "one"}, "already"),
        ({"checkpoint": "No!"}, "No!"),
    ):
        with pytest.raises(ClientError, match=message):
            block.serve_backup("web", str(socket), report=ignore, **options)
    check_gone(qorch_host, socket)
    end = stop_writing(web)
    assert set(verify(web).values()) == {end}
    with serving(qorch_host, socket) as process:
        os.kill(web.show()["pid"], signal.SIGKILL)
        assert process.wait() == 1
    qorch_host.client.start_machine("web", report=ignore, wait=180)
    start_writing(web)
    check_gone(qorch_host, socket)
    check_images(*qorch_host.state.default_pool.iterdir())
