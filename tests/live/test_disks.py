"""Disks that are moved, grown and limited while their guest writes all the time."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from reports import ignore
from writer import (
    ask_written,
    check_images,
    make_document,
    start_writing,
    stop_writing,
    verify,
    wait_written,
)

from qorch.block_client import BlockClient
from qorch.client import ClientError
from qorch.testing import Host, TestMachine

pytestmark = pytest.mark.live

POOL = """
    [pool.other]
    path = "{path}"
"""


@pytest.fixture
def text(qorch_host: Host, bios: Path) -> str:
    """A machine whose guest writes, and a second pool."""
    return make_document(bios) + POOL.format(path=qorch_host.directory / "other")


def test_moved_there_and_back(qorch_host: Host, text: str) -> None:
    """A disk goes to another pool as raw, and back as qcow2; the guest loses nothing."""
    qorch_host.up(text)
    web, block, client = (
        qorch_host.machine("web"),
        BlockClient(qorch_host.client),
        qorch_host.client,
    )
    start_writing(web)
    block.move_disk("web", "disk1", pool="other", image_format="raw", report=ignore)
    moved = qorch_host.directory / "other" / "web-disk1.raw"
    assert web.show()["disks"][1]["path"] == str(moved)
    assert [path.name for path in qorch_host.state.default_pool.iterdir()] == ["web-disk0.qcow2"]
    wait_written(web)
    qorch_host.kill_supervisor()  # whoever adopts knows where the disk is
    assert web.show()["disks"][1]["path"] == str(moved)
    assert {change["action"] for change in qorch_host.plan(text)} == {"none"}
    block.move_disk("web", "disk1", pool="default", report=ignore)
    assert not moved.exists()
    wait_written(web)
    end = stop_writing(web)
    assert set(verify(web).values()) == {end}
    client.kill_machine("web", report=ignore)
    block.move_disk("web", "disk1", pool="other", report=ignore)  # offline
    client.start_machine("web", report=ignore, wait=180)
    assert set(verify(web).values()) == {end}


def test_moved_with_a_snapshot(qorch_host: Host, text: str) -> None:
    """What a snapshot needs stays where it is, and can be gone back to."""
    qorch_host.up(text)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    start_writing(web)
    first = stop_writing(web)
    block.create_snapshot("web", "s1", report=ignore)
    start_writing(web)
    second = stop_writing(web)
    block.move_disk("web", "disk0", pool="other", report=ignore)
    assert set(verify(web).values()) == {second}
    block.revert_snapshot("web", "s1", report=ignore)
    web.wait_console("^GUEST-UP")
    assert set(verify(web).values()) == {first}
    block.remove_snapshot("web", "s1", report=ignore)
    assert set(verify(web).values()) == {first}


def test_flattened(qorch_host: Host, text: str) -> None:
    """A disk that is cut off from its base needs it no longer, running or not."""
    qorch_host.up(text)
    web, block, client = (
        qorch_host.machine("web"),
        BlockClient(qorch_host.client),
        qorch_host.client,
    )
    start_writing(web)
    block.create_snapshot("web", "s1", report=ignore)
    block.flatten_disk("web", "disk0", report=ignore)
    end = stop_writing(web)
    client.kill_machine("web", report=ignore)
    block.flatten_disk("web", "disk1", report=ignore)
    for disk in web.show()["disks"]:
        assert disk["backing"] == []
        check_images(Path(disk["path"]))
    client.start_machine("web", report=ignore, wait=180)
    assert set(verify(web).values()) == {end}


def test_cancelled(qorch_host: Host, text: str) -> None:
    """A move that is cancelled leaves the disk where it was, and nothing where it was to go."""
    qorch_host.up(text)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    start_writing(web)
    before = web.show()["disks"][1]["path"]

    def cancel(line: dict[str, str]) -> None:
        if line.get("step", "").startswith("copy web-disk1"):
            with qorch_host.client.__class__(qorch_host.state, start=False) as other:
                while not BlockClient(other).find_jobs():
                    pass
                BlockClient(other).cancel_job("web")

    with pytest.raises(ClientError, match="cancelled"):
        block.move_disk("web", "disk1", pool="other", report=cancel)
    assert web.show()["disks"][1]["path"] == before
    assert list((qorch_host.directory / "other").iterdir()) == []
    assert block.find_jobs() == []
    end = stop_writing(web)
    assert set(verify(web).values()) == {end}


@pytest.fixture
def media(tmp_path: Path) -> dict[str, str]:
    """Images for a drive, by what they say."""
    paths = {name: tmp_path / f"{name}.iso" for name in ("one", "two")}
    for name, path in paths.items():
        path.write_bytes(f"MEDIUM-{name}\n".encode().ljust(1 << 16, b"\0"))
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def linux(tiny: Path, media: dict[str, str]) -> str:
    """A Linux guest with a disk and a drive."""
    append = (tiny / "cmdline").read_text().strip()
    return f"""
        [vm.web]
        kernel = "{tiny}/vmlinuz"
        initrd = "{tiny}/initrd.gz"
        append = "{append}"
        accel = "tcg"
        ready = {{ console = "^GUEST-UP" }}

        [[vm.web.disk]]
        size = "32MiB"

        [[vm.web.disk]]
        device = "cdrom"
        bus = "scsi"
        path = "{media["one"]}"
        """


def read_medium(web: TestMachine, say: str) -> str:
    """What the guest finds in its drive, said so that it is not taken for what was found before."""
    web.type(f"echo {say} $(head -n 1 /dev/sr0 2>&1) {say}\n")
    return web.wait_console(rf"^{say} (.*) {say}\r?$").group(1)


def test_linux_sees_what_is_changed(
    qorch_host: Host, linux: str, media: dict[str, str], tmp_path: Path
) -> None:
    """Its disk grows and its media change as it runs; `up` puts back what is described."""
    qorch_host.up(linux)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    for _ in range(2):
        done = qorch_host.qorch("set", "web", "disk0", "size=48MiB")
        assert done.returncode == 0, done.stderr
    web.type("cat /sys/block/vda/size\n")
    web.wait_console("^98304")
    with pytest.raises(ClientError, match="only grow"):
        block.grow_disk("web", "disk0", size=16 << 20, report=ignore)

    assert read_medium(web, "first") == "MEDIUM-one"
    web.type("(echo LOCKED; sleep 999) </dev/sr0 &\n")
    web.wait_console("^LOCKED")
    done = qorch_host.qorch("media", "web", "disk1", media["two"])
    assert done.returncode == 1
    assert "locked the tray" in done.stderr
    assert web.show()["disks"][1]["path"] == media["one"]
    done = qorch_host.qorch("media", "web", "disk1", media["two"], "--force")
    assert done.returncode == 0, done.stderr
    web.type("killall sleep; echo RELEASED\n")
    web.wait_console("^RELEASED")
    assert read_medium(web, "second") == "MEDIUM-two"
    block.change_medium("web", "disk1", path=None, report=ignore)
    assert web.show()["disks"][1]["path"] is None
    assert "No medium" in read_medium(web, "third")

    qorch_host.kill_supervisor()  # whoever adopts knows what is in the drive
    (row,) = (row for row in qorch_host.plan(linux) if row["kind"] == "vm")
    assert (row["action"], media["one"] in row["detail"]) == ("change", True)
    qorch_host.up(linux)
    assert {row["action"] for row in qorch_host.plan(linux)} == {"none"}
    assert read_medium(web, "fourth") == "MEDIUM-one"

    for disk, path, message in (
        ("disk1", str(tmp_path / "none.iso"), "does not exist"),
        ("disk0", media["two"], "is no drive"),
    ):
        with pytest.raises(ClientError, match=message):
            block.change_medium("web", disk, path=path, report=ignore)
    qorch_host.client.kill_machine("web", report=ignore)
    with pytest.raises(ClientError, match="does not run"):
        block.change_medium("web", "disk1", path=None, report=ignore)
    with pytest.raises(ClientError, match="does not run"):
        block.limit_disk("web", "disk0", limits={"iops_total": 1}, report=ignore)


def test_limited(qorch_host: Host, text: str) -> None:
    """A disk is as slow as it is told to be, whatever its image is, and as fast again."""
    qorch_host.up(text)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    start_writing(web)
    for change in (
        lambda: None,
        lambda: block.create_snapshot("web", "s1", report=ignore),
        lambda: block.move_disk("web", "disk1", pool="other", report=ignore),
    ):
        change()
        block.limit_disk("web", "disk1", limits={"iops_total": 1}, report=ignore)
        slow = ask_written(web)
        block.limit_disk("web", "disk1", limits={}, report=ignore)
        assert wait_written(web) > slow
    block.limit_disk("web", "disk1", limits={"iops_total": 1}, report=ignore)
    (row,) = (row for row in qorch_host.plan(text) if row["kind"] == "vm")
    assert (row["action"], row["detail"]) == ("change", "disks.1.throttle … → none")
    qorch_host.up(text)
    assert {row["action"] for row in qorch_host.plan(text)} == {"none"}
    wait_written(web)
    end = stop_writing(web)
    assert set(verify(web).values()) == {end}


def test_full_host(qorch_host: Host, bios: Path) -> None:
    """A guest that finds no room on the host is paused and says so; with room it goes on."""
    place = qorch_host.directory / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "small", place], check=True)
    try:
        text = make_document(bios).replace('size = "32MiB"', 'size = "32MiB"\n    pool = "small"')
        qorch_host.up(text + f'\n    [pool.small]\n    path = "{place}/pool"\n')
        web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
        with qorch_host.client.__class__(qorch_host.state) as other, other.open_events() as events:
            web.type("w")
            (event,) = itertools.islice((e for e in events if e["event"] == "NO_SPACE"), 1)
        assert event["pool"] == "small"
        assert event["missing"] > 20 << 20
        assert web.show()["state"] == "paused"
        (lack,) = (item for item in web.show()["lacks"] if item["disk"] == event["disk"])
        assert lack["volume"] == f"web-{event['disk']}.qcow2"
        qorch_host.kill_supervisor()
        assert web.show()["lacks"]  # the next one knows it, too
        subprocess.run(["mount", "-o", "remount,size=100m", place], check=True)
        block.resume_machine("web", report=ignore)
        wait_written(web)
        assert web.show()["lacks"] == []
        end = stop_writing(web)
        assert set(verify(web).values()) == {end}
        qorch_host.down(text)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
