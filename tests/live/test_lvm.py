"""A machine whose disks are logical volumes, in the test VM: it writes them; they go with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qorch.client import ClientError
from qorch.testing import Host
from qorch_storage.lvm.commands import find_group, run_lvm

pytestmark = pytest.mark.testbed

VG = "qorch-live"
WEB = """
    [pool.fast]
    type = "lvm"
    vg = "qorch-live"

    [pool.many]
    type = "lvm-thin"
    vg = "qorch-live"
    thin_pool = "tp"
    extend = {{ step = "32MiB" }}

    [volume.data]
    pool = "many"
    size = "16MiB"

    [vm.web]
    memory = "64MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.disk]]
    path = "{disk}"

    [[vm.web.disk]]
    pool = "fast"
    size = "8MiB"

    [[vm.web.disk]]
    volume = "data"
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
    left = set(find_group(VG).volumes)
    run_lvm("vgremove", "-f", "-y", VG)
    subprocess.run(["losetup", "-d", loop], check=True)
    assert left == {"tp"}


def test_disks_in_lvm(qorch_host: Host, bios_disk: Path, vg: str) -> None:
    """A guest reads and writes its LV and its thin LV; what it writes is there; both go with it."""
    text = WEB.format(disk=bios_disk)
    qorch_host.up(text)
    web = qorch_host.machine("web")
    assert "GUEST-DISK 81 mb=8 rw=ok" in web.console_log
    assert "GUEST-DISK 82 mb=16 rw=ok" in web.console_log
    assert [disk["path"] for disk in web.show()["disks"]][1:] == [
        f"/dev/{vg}/web-disk1",
        f"/dev/{vg}/data",
    ]
    with pytest.raises(ClientError, match=r"is a disk of web"):
        qorch_host.client.follow("DELETE", "/v1/pools/many/volumes/data", {}, lambda _: None)
    tags = {lv.name: lv.tags for lv in find_group(vg).volumes.values() if lv.name != "tp"}
    mark = f"qorch:{qorch_host.state.owner}"
    assert tags == {"web-disk1": {mark}, "data": {mark}}
    qorch_host.client.kill_machine("web", report=lambda _: None)
    assert Path(f"/dev/{vg}/data").read_bytes().strip(b"\0") != b""
    qorch_host.down(text)
    assert qorch_host.find_leftovers() == []
