"""Devices as guests see them, each through its own driver."""

from __future__ import annotations

import re
import shutil
import socket
import urllib.request
from pathlib import Path

import pytest
import screens

from qorch.sockets import connect_unix
from qorch.testing import Host
from qorch.testing.host import TestMachine

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
    tpm = 'tpm = "1.2"' if machine == "q35" else ""  # a microvm has no place for one
    qorch_host.up(
        f"""{make_text(tiny, machine)}
    {tpm}
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
    if tpm:
        web.type("cd /sys/class/tpm/tpm0; cat tpm_version_major pcrs; echo TPM-E''ND\n")
        web.wait_console(r"^1\s+PCR-00:(?: [0-9A-F]{2}){20}")


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


ALL_KINDS = """
    [vm.web]
    kernel = "{guest}/vmlinux"
    initrd = "{guest}/initrd.gz"
    append = "{append}"
    memory = "384MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}
    vnc = {{ password_file = "{secret}" }}
    spice = {{ password_file = "{secret}" }}
    video = [{{ model = "qxl" }}]
    watchdog = [{{ action = "pause" }}]
    panic = [{{}}]
    on_panic = "pause"
    serial = [{{ model = "virtconsole", backend = "null" }}]
    disk = [
        {{ size = "16MiB", bus = "nvme" }},
        {{ size = "17MiB", bus = "sata" }},
        {{ size = "18MiB", bus = "scsi" }},
        {{ size = "19MiB", bus = "usb" }},
        {{ size = "20MiB", serial = "V1" }},
        {{ path = "{cd}", format = "raw", device = "cdrom" }},
        {{ path = "{cd}", format = "raw", device = "cdrom", bus = "scsi" }},
    ]
    [[vm.web.nic]]
    model = "e1000e"
    user = {{ net = "10.1.0.0/24", forward = [{{ host_port = 8080, port = 80 }}] }}
    [[vm.web.nic]]
    model = "rtl8139"
    user = {{ net = "10.2.0.0/24" }}
    [[vm.web.nic]]
    model = "vmxnet3"
    user = {{ net = "10.3.0.0/24" }}
    [[vm.web.nic]]
    model = "e1000"
    user = {{ net = "10.4.0.0/24" }}
"""
DISKS = {  # sectors: the way to the disk
    16 << 11: r"/nvme/nvme0/",
    17 << 11: r"/ata\d+/.*/block/sd",
    18 << 11: r"/virtio\d+/host.*/block/sd",
    19 << 11: r"/usb\d+/.*/block/sd",
    20 << 11: r"/virtio\d+/block/vd",
}


def test_every_kind_of_device(qorch_host: Host, devices: Path, tmp_path: Path) -> None:
    """A guest's own drivers find disks on five buses, two CD drives, cards, and all the rest.

    Its screens want their password; what it does when it hangs or panics is told.
    """
    secret, cd = tmp_path / "secret", tmp_path / "cd"
    secret.write_text("letmein\n")
    cd.write_bytes(bytes(21 << 20))
    append = (devices / "cmdline").read_text().strip()
    qorch_host.up(ALL_KINDS.format(guest=devices, append=append, secret=secret, cd=cd))
    web = qorch_host.machine("web")
    web.type("for b in /sys/block/*; do echo BLOCK $(cat $b/size) $(readlink $b); done\n")
    web.type("head -c 8 /dev/hwrng | wc -c; cat /sys/block/vda/serial; ls /dev/hvc0; echo E''ND\n")
    web.wait_console("^END")
    log = web.console_log
    for size, way in DISKS.items():
        assert re.search(rf"^BLOCK {size} \S*{way}", log, re.MULTILINE), log
    assert len(re.findall(rf"^BLOCK {21 << 11} \S*/block/sr\d", log, re.MULTILINE)) == 2
    assert re.search(r"^8\s+V1\s*/dev/hvc0\s+END", log, re.MULTILINE), log
    for number in (1, 2, 3, 4):  # a lease is a packet there and one back
        assert re.search(rf"^GUEST-IP eth\d 10\.{number}\.0\.15/24", log, re.MULTILINE), log
    with (
        qorch_host.inside(),
        urllib.request.urlopen("http://127.0.0.1:8080/", timeout=120) as page,
    ):
        assert b"hostname: " in page.read()
    see_screens(web)
    hang_and_panic(web)


def see_screens(web: TestMachine) -> None:
    """Both servers answer where `show` says, and want the password."""
    shown = web.show()
    with connect_unix(Path(shown["vnc"])) as client:
        assert screens.see_vnc(client, "wrong") is None
    with connect_unix(Path(shown["vnc"])) as client:
        size = screens.see_vnc(client, "letmein")
    assert size is not None
    assert min(size) > 100
    for password, let_in in (("wrong", False), ("letmein", True)):
        with connect_unix(Path(shown["spice"])) as client:
            assert screens.is_let_in_by_spice(client, password) == let_in


def hang_and_panic(web: TestMachine) -> None:
    """The watchdog's action is taken; a panic is told and shown."""
    with web.host.client.open_events("web") as events:
        web.type("watchdog -T 2 -t 300 /dev/watchdog0\n")
        told = [next(events)["event"]]
        while told[-1] != "STOP":
            told.append(next(events)["event"])
        assert "WATCHDOG" in told
        assert web.show()["state"] == "paused"
        assert web.host.qorch("resume", "web").returncode == 0
        web.type("echo c >/proc/sysrq-trigger\n")
        assert any(event["event"] == "GUEST_PANICKED" for event in events)
        assert web.show()["state"] == "crashed"


def test_a_disk_on_ide(qorch_host: Host, bios_disk: Path, tmp_path: Path) -> None:
    """The BIOS of an old PC boots from it, and it is the one that the file names."""
    bios = Path(shutil.copy("/usr/share/seabios/bios-256k.bin", tmp_path / "my-bios.bin"))
    qorch_host.up(f"""
    [vm.web]
    machine = "pc"
    firmware = {{ code = "{bios}" }}
    accel = "tcg"
    memory = "16MiB"
    [[vm.web.disk]]
    path = "{bios_disk}"
    bus = "ide"
    [[vm.web.video]]
    model = "cirrus"
    """)
    qorch_host.machine("web").wait_console(r"^GUEST-UP")


def test_uefi_of_files_that_are_named(qorch_host: Host, tmp_path: Path) -> None:
    """Code and the template of the variables, whatever QEMU's descriptors say."""
    code, template = tmp_path / "code.fd", tmp_path / "template.fd"
    shutil.copy("/usr/share/OVMF/OVMF_CODE_4M.fd", code)
    shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", template)
    qorch_host.up(
        f"""
    [vm.web]
    accel = "tcg"
    memory = "128MiB"
    firmware = {{ type = "uefi", code = "{code}", vars_template = "{template}" }}
    boot = {{ auto = false }}
    """,
        wait=None,
    )
    qorch_host.machine("web").wait_console("BdsDxe: starting")
