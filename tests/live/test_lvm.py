"""Machines whose disks are logical volumes, in the test VM: nothing is lost, nothing is left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from reports import ignore
from writer import read_records, start_writing, stop_writing, verify, wait_written

from qorch.block_client import BlockClient
from qorch.client import ClientError
from qorch.testing import Host, TestMachine
from qorch_storage.lvm.commands import find_group, run_lvm

pytestmark = pytest.mark.testbed

VG = "qorch-live"
POOLS = """
    [pool.fast]
    type = "lvm"
    vg = "qorch-live"

    [pool.many]
    type = "lvm-thin"
    vg = "qorch-live"
    thin_pool = "tp"

    [volume.data]
    pool = "many"
    size = "12MiB"
"""
WEB = """
    [vm.web]
    memory = "64MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.disk]]
    backing = "{bios}/disk.img"
    backing_format = "raw"
    size = "10MiB"

    [[vm.web.disk]]
    pool = "fast"
    size = "10MiB"

    [[vm.web.disk]]
    volume = "data"
"""
SMALL = """
    [pool.fast]
    type = "lvm-thin"
    vg = "qorch-live"
    thin_pool = "small"
    extend = { step = "4MiB", limit = "8MiB" }

    [volume.data]
    pool = "fast"
    size = "12MiB"
"""


@pytest.fixture
def vg(tmp_path: Path) -> Iterator[str]:
    """A volume group with a thin pool; nothing else may be in it at the end."""
    disk = tmp_path / "pv"
    with disk.open("wb") as file:
        file.truncate(256 << 20)
    attach = ("losetup", "-f", "--show", disk)
    loop = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    run_lvm("pvcreate", "-q", loop)
    run_lvm("vgcreate", "-q", VG, loop)
    run_lvm("lvcreate", "-y", "-q", "--type", "thin-pool", "-L", "64M", "-n", "tp", VG)
    yield VG
    left = find_lvs()
    run_lvm("vgremove", "-f", "-y", VG)
    subprocess.run(["losetup", "-d", loop], check=True)
    assert left == set()


def find_lvs() -> set[str]:
    """The LVs beside the thin pools."""
    return {lv.name for lv in find_group(VG).volumes.values() if "pool" not in lv.layout}


def find_paths(web: TestMachine) -> list[str]:
    """The images that the machine's disks are now, but for their directories."""
    return [Path(disk["path"]).name for disk in web.show()["disks"]]


def test_machine_on_lvm(qorch_host: Host, bios: Path, vg: str, tmp_path: Path) -> None:
    """Disks in LVs and thin LVs are snapshotted, reverted, moved, restored; then all is gone."""
    text = POOLS + WEB.format(bios=bios)
    qorch_host.up(text)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    assert "GUEST-DISK 81 mb=12 rw=ok" in web.console_log
    assert "GUEST-DISK 82 mb=12 rw=ok" in web.console_log
    tags = {name: find_group(vg).volumes[name].tags for name in find_lvs()}
    mark = f"qorch:{qorch_host.state.owner}"
    assert tags == {"web-disk1": {mark}, "data": {mark}}
    with pytest.raises(ClientError, match=r"is a disk of web"):
        qorch_host.client.follow("DELETE", "/v1/pools/many/volumes/data", {}, ignore)
    first = snapshot_and_revert(web, block, tmp_path)
    move_there_and_back(web, block)
    end = restore(web, block, qorch_host, tmp_path)
    assert end > first
    qorch_host.down(text)
    assert find_lvs() == set()
    assert list(qorch_host.state.default_pool.iterdir()) == []
    assert qorch_host.find_leftovers() == []


def snapshot_and_revert(web: TestMachine, block: BlockClient, directory: Path) -> int:
    """An overlay on a file, one on an LV, and a thin snapshot are of one moment."""
    start_writing(web)
    block.create_snapshot("web", "s1", report=ignore)
    assert find_paths(web) == ["web-disk0.1.qcow2", "web-disk1.1.qcow2", "data"]
    wait_written(web)
    assert find_lvs() == {"web-disk1", "data", "data.1"}
    (row,) = block.find_snapshots("web")
    newest = []
    for path in map(Path, row["disks"].values()):
        form = "qcow2" if path.suffix == ".qcow2" else "raw"
        newest.append(read_records(path, form, directory))
    assert max(newest) - min(newest) <= 1  # a record goes to the first disk first
    assert stop_writing(web) > max(newest)
    block.revert_snapshot("web", "s1", report=ignore)
    web.wait_console("^GUEST-UP")
    assert list(verify(web, 3).values()) == newest
    block.remove_snapshot("web", "s1", report=ignore)
    assert find_paths(web) == ["web-disk0.qcow2", "web-disk1", "data.2"]
    assert find_lvs() == {"web-disk1", "data.2"}
    return newest[0]


def move_there_and_back(web: TestMachine, block: BlockClient) -> None:
    """From an LV into qcow2 and back, and from qcow2 into a thin LV, while the guest writes."""
    start_writing(web)
    for disk, pool in (("disk1", "default"), ("disk1", "fast"), ("disk0", "many")):
        block.move_disk("web", disk, pool=pool, report=ignore)
        wait_written(web, 2)
        assert len(find_lvs()) == sum(not name.endswith("qcow2") for name in find_paths(web))
    assert find_paths(web) == ["web-disk0", "web-disk1", "data.2"]


def restore(web: TestMachine, block: BlockClient, host: Host, directory: Path) -> int:
    """What a backup holds comes back into LVs."""
    end = stop_writing(web)
    host.client.kill_machine("web", report=ignore)
    backups = str(directory / "backups")
    block.create_backup("web", backups, report=ignore)
    block.restore_backup("web", backups, "0001", report=ignore)
    assert find_paths(web) == ["web-disk0.1", "web-disk1.1", "data.1"]
    host.client.start_machine("web", report=ignore, wait=300)
    assert set(verify(web, 3).values()) == {end}
    return end


def test_full_thin_pool(qorch_host: Host, bios: Path, vg: str) -> None:
    """A full thin pool is extended as far as it may be, and the guest goes on; then it waits."""
    run_lvm("lvcreate", "-y", "--type", "thin-pool", "-L", "4M", "-c", "512K", "-n", "small", vg)
    run_lvm("lvchange", "-y", "--errorwhenfull", "y", f"{vg}/small")  # not after a minute
    text = SMALL + WEB.format(bios=bios)
    qorch_host.up(text)
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    with qorch_host.client.__class__(qorch_host.state) as other, other.open_events() as events:
        web.type("w")
        told = (event for event in events if event["event"] in {"NO_SPACE", "SPACE_EXTENDED"})
        last = {"event": ""}
        for event in told:
            if (last["event"], event["event"]) == ("SPACE_EXTENDED", "NO_SPACE"):
                break
            last = event
    assert find_group(vg).volumes["small"].size == 8 << 20
    assert web.show()["state"] == "paused"
    (lack,) = web.show()["lacks"]
    assert lack == {key: event[key] for key in lack}
    assert (lack["volume"], lack["pool"]) in {("web-disk1", "fast"), ("data", "fast")}
    assert 1 << 20 <= lack["missing"] <= 12 << 20
    run_lvm("lvextend", "-y", "-q", "-L", "+8M", f"{vg}/small")
    block.resume_machine("web", report=ignore)
    wait_written(web)
    end = stop_writing(web)
    assert set(verify(web, 3).values()) == {end}
    qorch_host.down(text)
