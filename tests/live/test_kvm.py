"""A Linux guest under KVM, in the test VM: the CPU that TCG emulates there has SVM."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports import ignore

from qorch.testing import Host, TestMachine

pytestmark = [pytest.mark.testbed, pytest.mark.kvm]

DOCUMENT = """
    [vm.web]
    kernel = "{tiny}/vmlinuz"
    initrd = "{tiny}/initrd.gz"
    append = "{append}"
    memory = "192MiB"
    accel = "auto"
    cpu = {{ count = 2, pin = ["1", "0"] }}
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.nic]]
    vhost = true
"""


def assert_under_kvm(machine: TestMachine, pins: list[int]) -> None:
    """It runs under KVM, a pinned thread per vCPU, and answers a ping."""
    shown = machine.show()
    assert shown["accel"] == "kvm"
    words = Path(f"/proc/{shown['pid']}/cmdline").read_text().split("\0")
    assert "-enable-kvm" in words
    assert f"GUEST-CPU n={len(pins)}" in machine.console_log
    for vcpu, pin in zip(shown["vcpus"], pins, strict=True):
        assert vcpu["affinity"] == [pin]
        thread = Path(f"/proc/{shown['pid']}/task/{vcpu['thread_id']}/comm").read_text()
        assert thread == f"CPU {vcpu['index']}/KVM\n"
    machine.host.run("ping", "-c", "2", "-W", "10", machine.ip)


def assert_vhost(pid: int) -> None:
    """The kernel itself moves the frames of QEMU's card, in a thread that is named after QEMU."""
    opened = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    assert "/dev/vhost-net" in opened
    names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm")]
    assert f"vhost-{pid}" in names


def test_linux(qorch_host: Host, tiny: Path) -> None:
    """A Linux guest runs under KVM, pinned, on the network, with vhost; `auto` means KVM here."""
    append = (tiny / "cmdline").read_text().strip()
    qorch_host.up(DOCUMENT.format(tiny=tiny, append=append), wait=600)
    web = qorch_host.machine("web")
    assert_under_kvm(web, [1, 0])
    assert_vhost(web.show()["pid"])
    qorch_host.client.stop_machine("web", report=ignore, grace=120)
    assert "GUEST-POWERDOWN" in web.console_log
    assert web.show()["state"] == "stopped"
