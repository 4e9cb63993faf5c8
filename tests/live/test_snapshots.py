"""Snapshots of machines whose guest writes all the time: nothing is lost, nothing is left."""

from __future__ import annotations

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

from qorch.block_client import BlockClient
from qorch.client import ClientError
from qorch.testing import Host

pytestmark = pytest.mark.live


def images_of(host: Host) -> list[Path]:
    """The images that the machine has open, and what they build on in its pool."""
    disks = host.machine("web").show()["disks"]
    paths = [Path(path) for disk in disks for path in (disk["path"], *disk["backing"])]
    return [path for path in paths if path.suffix == ".qcow2"]


def pool_of(host: Host) -> list[str]:
    """What lies in the default pool."""
    return sorted(path.name for path in host.state.default_pool.iterdir())


def test_snapshots_while_the_guest_writes(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """Each snapshot holds all that was written before it, the same on all disks; the guest too."""
    qorch_host.up(make_document(bios))
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    start_writing(web)
    for name in ("s1", "s2", "s3"):
        block.create_snapshot("web", name, report=ignore)
        wait_written(web)
    rows = block.find_snapshots("web")
    assert [(row["name"], row["parent"]) for row in rows] == [
        ("s1", None),
        ("s2", "s1"),
        ("s3", "s2"),
    ]
    last = 0
    for row in rows:
        one, other = (read_records(Path(path), "qcow2", tmp_path) for path in row["disks"].values())
        assert 0 <= one - other <= 1  # a record goes to the first disk first
        assert other > last
        last = one
    end = stop_writing(web)
    assert end > last
    assert set(verify(web).values()) == {end}
    check_images(*images_of(qorch_host))
    assert len(images_of(qorch_host)) == 8


def test_removed_while_the_guest_writes(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """Snapshots are merged live, in any order; in the end the disks are what they were at first."""
    qorch_host.up(make_document(bios))
    before = [disk["path"] for disk in qorch_host.machine("web").show()["disks"]]
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    start_writing(web)
    for name in ("s1", "s2", "s3"):
        block.create_snapshot("web", name, report=ignore)
        wait_written(web, 5)
    (kept,) = [row for row in block.find_snapshots("web") if row["name"] == "s3"]
    newest = read_records(Path(kept["disks"]["disk1"]), "qcow2", tmp_path)
    block.remove_snapshot("web", "s2", report=ignore)  # below the top: committed in the middle
    wait_written(web, 5)
    (kept,) = [row for row in block.find_snapshots("web") if row["name"] == "s3"]
    assert read_records(Path(kept["disks"]["disk1"]), "qcow2", tmp_path) == newest
    block.remove_snapshot("web", "s3", report=ignore)
    block.remove_snapshot("web", "s1", report=ignore)
    wait_written(web, 5)
    assert block.find_snapshots("web") == []
    assert [disk["path"] for disk in web.show()["disks"]] == before
    assert pool_of(qorch_host) == ["web-disk0.qcow2", "web-disk1.qcow2"]
    end = stop_writing(web)
    assert set(verify(web).values()) == {end}
    qorch_host.client.kill_machine("web", report=ignore)
    qorch_host.client.start_machine("web", report=ignore, wait=180)
    assert set(verify(web).values()) == {end}
    qorch_host.client.kill_machine("web", report=ignore)
    check_images(*map(Path, before))


def test_revert(qorch_host: Host, bios: Path) -> None:
    """Going back gives the disks as they were, running or not, also along another branch."""
    qorch_host.up(make_document(bios))
    web, block, client = (
        qorch_host.machine("web"),
        BlockClient(qorch_host.client),
        qorch_host.client,
    )
    start_writing(web)
    first = stop_writing(web)
    block.create_snapshot("web", "s1", report=ignore)
    start_writing(web)
    second = stop_writing(web)
    assert second > first
    client.kill_machine("web", report=ignore)
    block.create_snapshot("web", "s2", report=ignore)  # offline
    block.revert_snapshot("web", "s1", report=ignore)
    assert web.show()["state"] == "stopped"
    client.start_machine("web", report=ignore, wait=180)
    assert set(verify(web).values()) == {first}
    start_writing(web)
    stop_writing(web)
    block.create_snapshot("web", "s3", report=ignore)
    block.revert_snapshot("web", "s2", report=ignore)  # running: ended and started again
    web.wait_console("^GUEST-UP")
    assert web.show()["state"] == "running"
    assert set(verify(web).values()) == {second}
    rows = [(row["name"], row["parent"]) for row in block.find_snapshots("web")]
    assert rows == [("s1", None), ("s2", "s1"), ("s3", "s1")]
    printed = qorch_host.qorch("snapshot", "ls", "web").stdout
    assert "├─ s2 *" in printed
    for name in ("s1", "s3", "s2"):
        block.remove_snapshot("web", name, report=ignore)
    assert set(verify(web).values()) == {second}
    assert pool_of(qorch_host) == ["web-disk0.qcow2", "web-disk1.qcow2"]


def test_up_again_keeps_the_data(qorch_host: Host, bios: Path) -> None:
    """A document brought up again finds the disks where snapshots have put their data."""
    text = make_document(bios)
    qorch_host.up(text)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    block.create_snapshot("web", "s1", report=ignore)
    start_writing(web)
    end = stop_writing(web)
    assert {change["action"] for change in qorch_host.plan(text)} == {"none"}
    qorch_host.down(text, volumes=False)
    qorch_host.up(text)
    assert set(verify(web).values()) == {end}
    assert [row["name"] for row in block.find_snapshots("web")] == ["s1"]
    qorch_host.down(text)
    assert pool_of(qorch_host) == []


def test_bad_input(qorch_host: Host, bios: Path) -> None:
    """What cannot be is one clear error, and nothing is changed, or it is ended later."""
    qorch_host.up(make_document(bios))
    block = BlockClient(qorch_host.client)
    block.create_snapshot("web", "s1", report=ignore)
    before = pool_of(qorch_host)
    for call, kind, message in (
        (lambda: block.create_snapshot("web", "s1", report=ignore), "input", "already"),
        (lambda: block.create_snapshot("web", "No!", report=ignore), "input", "No!"),
        (lambda: block.revert_snapshot("web", "s7", report=ignore), "not-found", "s7"),
        (lambda: block.remove_snapshot("web", "s7", report=ignore), "not-found", "s7"),
        (lambda: block.find_snapshots("db"), "not-found", "db"),
        (lambda: block.move_disk("web", "disk7", pool="default", report=ignore), "not-found", "7"),
        (lambda: block.move_disk("web", "disk0", pool="nix", report=ignore), "not-found", "nix"),
    ):
        with pytest.raises(ClientError, match=message) as caught:
            call()
        assert caught.value.kind == kind
    assert pool_of(qorch_host) == before
    blocked = qorch_host.state.data / "images" / ".web.json.new"
    blocked.mkdir()
    with pytest.raises(ClientError, match="cannot write"):
        block.create_snapshot("web", "s2", report=ignore)  # its overlays are in place by then
    blocked.rmdir()
    block.create_snapshot("web", "s3", report=ignore)  # what was begun is ended first
    assert [row["name"] for row in block.find_snapshots("web")] == ["s1", "s2", "s3"]
