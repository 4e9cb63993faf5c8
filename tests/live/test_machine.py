"""One machine on a real QEMU: up, seen, stopped, killed, adopted."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from reports import ignore

from qorch.client import ClientError
from qorch.testing import Host, Leftovers

pytestmark = pytest.mark.live

WEB = """
    [network.lan]
    subnet = "192.168.133.0/24"

    [vm.web]
    memory = "64MiB"
    accel = "{accel}"
    cpu = {{ count = 2, pin = [0, 1] }}
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.disk]]
    path = "{disk}"

    [[vm.web.nic]]
    network = "lan"
"""


def make_web(disk: Path, accel: str = "tcg") -> str:
    """The document of one real-mode guest."""
    return WEB.format(disk=disk, accel=accel)


def test_up_and_down(qorch_host: Host, bios_disk: Path) -> None:
    """A guest comes up with its address, CPUs and pins, answers, and goes without a trace.

    Its second CPU could be unplugged, and is there before the guest looks for CPUs.
    """
    text = make_web(bios_disk).replace("count = 2", "count = 1, max = 2, plugged = [1]")
    qorch_host.up(text)
    (row,) = qorch_host.client.find_machines()
    assert (row["name"], row["state"], row["cpus"], row["accel"]) == ("web", "running", 2, "tcg")
    web = qorch_host.machine("web")
    assert f"GUEST-IP {web.ip} " in web.console_log
    assert f"uuid={row['uuid']}" in web.console_log
    assert "GUEST-CPU n=2 " in web.console_log
    assert [vcpu["affinity"] for vcpu in web.show()["vcpus"]] == [[0], [1]]
    for vcpu, cpu in zip(web.show()["vcpus"], ([0], [1]), strict=True):
        assert list(os.sched_getaffinity(vcpu["thread_id"])) == cpu
    qorch_host.run("ping", "-c1", "-W5", web.ip)
    qorch_host.down(text)
    assert qorch_host.client.find_machines() == []
    assert qorch_host.find_leftovers() == []


@pytest.mark.needs_kvm(real_mode=True)
def test_kvm(qorch_host: Host, bios_disk: Path) -> None:
    """A guest runs under -enable-kvm with its vCPU threads pinned."""
    qorch_host.up(make_web(bios_disk, accel="kvm"))
    web = qorch_host.machine("web")
    details = web.show()
    assert details["accel"] == "kvm"
    assert "-enable-kvm" in psutil.Process(details["pid"]).cmdline()
    assert [list(os.sched_getaffinity(v["thread_id"])) for v in details["vcpus"]] == [[0], [1]]
    qorch_host.run("ping", "-c1", "-W5", web.ip)


def test_auto_takes_tcg_without_vmx_or_svm(qorch_host: Host, bios_disk: Path) -> None:
    """`accel = "auto"` runs the guest either way, and `plan` and `up` say so when it is not KVM."""
    flags = Path("/proc/cpuinfo").read_text()
    document = qorch_host._document(make_web(bios_disk, accel="auto"))
    planned: list[dict[str, str]] = []
    qorch_host.client.plan(document, report=planned.append)
    told: list[dict[str, str]] = []
    qorch_host.client.up(document, wait=180, report=told.append)
    notes = [line["message"] for line in told if line["type"] == "note"]
    assert [line["message"] for line in planned] == notes
    hardware = Path("/dev/kvm").exists() and ("vmx" in flags or "svm" in flags)
    assert qorch_host.machine("web").show()["accel"] == ("kvm" if hardware else "tcg")
    assert any("TCG" in note for note in notes) is not hardware


def test_up_again_changes_nothing(qorch_host: Host, bios_disk: Path) -> None:
    """`up` on a running system leaves it as it is, and `plan` says so beforehand."""
    text = make_web(bios_disk)
    assert {change["action"] for change in qorch_host.plan(text)} == {"create"}
    qorch_host.up(text)
    pid = qorch_host.machine("web").show()["pid"]
    assert {change["action"] for change in qorch_host.plan(text)} == {"none"}
    qorch_host.up(text)
    assert qorch_host.machine("web").show()["pid"] == pid


def test_a_change_waits_for_a_restart(qorch_host: Host, bios_disk: Path) -> None:
    """A changed description is planned as a restart, and done only when asked for."""
    text = make_web(bios_disk)
    qorch_host.up(text)
    pid = qorch_host.machine("web").show()["pid"]
    more = text.replace("64MiB", "96MiB")
    (change,) = [c for c in qorch_host.plan(more) if c["kind"] == "vm"]
    assert change["action"] == "restart"
    assert "memory.size 64MiB → 96MiB" in change["detail"]
    qorch_host.up(more)
    assert qorch_host.machine("web").show()["pid"] == pid
    qorch_host.up(more, restart=True)
    web = qorch_host.machine("web").show()
    assert web["pid"] != pid
    assert web["memory"] == 96 << 20


def test_stop_start_restart_kill(qorch_host: Host, bios_disk: Path) -> None:
    """A guest is powered down, started, restarted and killed; its definition stays."""
    qorch_host.up(make_web(bios_disk))
    web, client = qorch_host.machine("web"), qorch_host.client

    client.stop_machine("web", report=ignore)
    assert "GUEST-POWERDOWN" in web.console_log
    assert web.show()["state"] == "stopped"
    client.start_machine("web", report=ignore, wait=180)
    first = web.show()["pid"]
    client.restart_machine("web", report=ignore, wait=180)
    assert web.show()["pid"] != first
    client.kill_machine("web", report=ignore)
    assert web.show()["state"] == "stopped"
    assert web.show()["pid"] is None


def test_adopted_after_kill(qorch_host: Host, bios_disk: Path) -> None:
    """`kill -9` of the supervisor: the guest runs on and is adopted with the same pid."""
    qorch_host.up(make_web(bios_disk))
    before = qorch_host.machine("web").show()
    qorch_host.kill_supervisor()
    assert psutil.pid_exists(before["pid"])
    after = qorch_host.machine("web").show()
    assert (after["pid"], after["state"]) == (before["pid"], "running")
    assert after["vcpus"] == before["vcpus"]
    qorch_host.run("ping", "-c1", "-W5", qorch_host.machine("web").ip)
    qorch_host.machine("web").type("p")
    qorch_host.machine("web").wait_console("GUEST-STATUS")


def test_a_crash_is_seen(qorch_host: Host, bios_disk: Path) -> None:
    """A QEMU that is killed is noticed at once, shown as crashed, and cleaned up after."""
    qorch_host.up(make_web(bios_disk))
    pid = qorch_host.machine("web").show()["pid"]
    with qorch_host.client.open_events("web") as events:
        os.kill(pid, signal.SIGKILL)
        assert any(event["event"] == "CRASHED" for event in events)
    assert qorch_host.machine("web").show()["state"] == "crashed"
    assert not any("qorch" in name for name in qorch_host.find_leftovers() if "vm/web" in name)


def test_dies_at_once(qorch_host: Host, tmp_path: Path) -> None:
    """If QEMU refuses to start, its own words are the error, and nothing is left."""
    kernel = tmp_path / "kernel"
    kernel.write_text("this is no kernel")
    text = f'[vm.web]\nkernel = "{kernel}"\ncpu = {{ model = "no-such-cpu" }}\naccel = "tcg"\n'
    with pytest.raises(ClientError) as caught:
        qorch_host.up(text)
    assert "no-such-cpu" in str(caught.value)
    assert qorch_host.client.find_machines() == []
    assert qorch_host.find_leftovers() == []


def test_log_is_bounded(qorch_host: Host, bios_disk: Path) -> None:
    """The console log keeps to its size however much the guest prints."""
    text = make_web(bios_disk) + '\n    [vm.web.console]\n    log_size = "4KiB"\n'
    qorch_host.up(text)
    web = qorch_host.machine("web")
    for _ in range(10):
        web.type("x" * 2000)
    web.type("p")
    web.wait_console("GUEST-STATUS")
    directory = qorch_host.state.machine_data("web")
    assert sum(path.stat().st_size for path in directory.glob("console.log*")) < 3 * 4096 + 2000


def test_two_hosts(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """Two supervisors with the same document in two namespaces do not touch each other."""
    from qorch.testing import open_host

    disks = []
    for name in ("one.raw", "two.raw"):
        disk = tmp_path / name
        disk.write_bytes((bios / "disk.img").read_bytes())
        disks.append(disk)
    with open_host() as other:
        qorch_host.up(make_web(disks[0]))
        other.up(make_web(disks[1]))
        assert qorch_host.state.owner != other.state.owner
        pids = [host.machine("web").show()["pid"] for host in (qorch_host, other)]
        other.down(make_web(disks[1]))
        assert other.find_leftovers() == []
        assert qorch_host.machine("web").show()["pid"] == pids[0]
        qorch_host.run("ping", "-c1", "-W5", qorch_host.machine("web").ip)


def test_a_host_is_cleared(qorch_host: Host, bios_disk: Path) -> None:
    """A host serves one test after the other, under one supervisor; what one leaves is named."""
    qorch_host.up(make_web(bios_disk), wait=None)
    pid = qorch_host.client.find_supervisor()["pid"]
    qorch_host.run("ip", "link", "add", "forgotten", "type", "bridge")
    with pytest.raises(Leftovers, match=r"left behind: forgotten$"):
        qorch_host.clear()
    qorch_host.run("ip", "link", "del", "forgotten")
    qorch_host.clear()
    assert qorch_host.client.find_machines() == []
    assert qorch_host.client.find_supervisor()["pid"] == pid


def test_ls_json(qorch_host: Host, bios_disk: Path) -> None:
    """`qorch ls --json` has exactly the keys of the contract."""
    qorch_host.up(make_web(bios_disk))
    (row,) = json.loads(qorch_host.qorch("ls", "--json").stdout)
    assert list(row) == ["name", "state", "pid", "uuid", "cpus", "memory", "accel", "ips", "uptime"]
