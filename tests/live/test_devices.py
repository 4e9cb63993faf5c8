"""Devices as guests see them, each through its own driver."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qorch.sockets import connect_unix
from qorch.testing import Host

pytestmark = pytest.mark.live

TINY = """
    [vm.web]
    machine = "{machine}"
    kernel = "{tiny}/vmlinuz"
    initrd = "{tiny}/initrd.gz"
    append = "{append}"
    memory = "256MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}
"""


def make_text(tiny: Path, machine: str = "q35") -> str:
    """The tiny guest's table."""
    append = (tiny / "cmdline").read_text().strip()
    if machine == "microvm":  # has neither HPET nor PM timer to calibrate the TSC by
        append += " tsc_early_khz=2000000"
    return TINY.format(machine=machine, tiny=tiny, append=append)


def ask(client: socket.socket, line: str) -> str:
    """Send a line and wait for the answer."""
    client.setblocking(True)
    client.settimeout(120)
    client.sendall(f"{line}\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):
        data = client.recv(4096)
        assert data, "the other end has closed"
        answer += data
    return answer.decode().strip()


@pytest.mark.parametrize("machine", ["q35", "microvm"])
def test_channels(qorch_host: Host, tiny: Path, machine: str, tmp_path: Path) -> None:
    """What the guest reads from a named port is what the host wrote, and a file gets its output."""
    out = tmp_path / "out"
    qorch_host.up(
        f"""{make_text(tiny, machine)}
    [[vm.web.channel]]
    name = "org.example.echo"
    [[vm.web.channel]]
    name = "org.example.out"
    backend = {{ type = "file", path = "{out}" }}
    """
    )
    web = qorch_host.machine("web")
    echo, _ = web.show()["channels"]
    assert echo["name"] == "org.example.echo"
    with connect_unix(Path(echo["socket"])) as client:
        web.type("cd /sys/class/virtio-ports; for p in *; do ln -s /dev/$p /$(cat $p/name); done\n")
        web.type("cd /; echo hello >org.example.out; echo RE''ADY\n")
        web.wait_console(r"^READY")
        web.type("exec 3<>org.example.echo; read x <&3; echo got $x >&3\n")
        assert ask(client, "ping") == "got ping"
    assert out.read_text() == "hello\n"


def test_a_machine_without_a_console(qorch_host: Host, bios_disk: Path) -> None:
    """It runs all the same, and whoever asks for the console is told."""
    qorch_host.up(f"""
    [vm.web]
    accel = "tcg"
    memory = "16MiB"
    console = {{ device = "none" }}
    [[vm.web.disk]]
    path = "{bios_disk}"
    """)
    assert qorch_host.machine("web").show()["console"] is None
    for verb in ("console", "log"):
        done = qorch_host.qorch(verb, "web")
        assert done.returncode == 1
        assert "has no console" in done.stderr


def test_many_devices(qorch_host: Host, tiny: Path) -> None:
    """A guest finds disks on two buses, two cards, random numbers and a second console."""
    qorch_host.up(
        f"""{make_text(tiny)}
    [[vm.web.disk]]
    size = "16MiB"
    serial = "V1"
    [[vm.web.disk]]
    size = "17MiB"
    bus = "scsi"
    serial = "S1"
    [[vm.web.nic]]
    user = {{}}
    [[vm.web.nic]]
    user = {{}}
    [[vm.web.serial]]
    model = "virtconsole"
    backend = "null"
    """
    )
    web = qorch_host.machine("web")
    web.type("cat /sys/block/vda/serial /sys/block/[vs]da/size; ls /sys/class/net\n")
    web.wait_console(r"V1\s*34816\s+32768\s+eth0\s+eth1\s+lo")
    web.type("ls -d /dev/hvc0 && head -c 8 /dev/hwrng | wc -c; echo E''ND\n")
    web.wait_console(r"/dev/hvc0\s+8\s+END")


def test_a_disk_on_ide(qorch_host: Host, bios_disk: Path) -> None:
    """The BIOS of an old PC boots from it."""
    qorch_host.up(f"""
    [vm.web]
    machine = "pc"
    accel = "tcg"
    memory = "16MiB"
    [[vm.web.disk]]
    path = "{bios_disk}"
    bus = "ide"
    [[vm.web.video]]
    model = "cirrus"
    """)
    qorch_host.machine("web").wait_console(r"^GUEST-UP")
