"""Real Linux guests, from the power button to the page they serve."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from reports import ignore

from qorch.testing import Host

pytestmark = pytest.mark.live

TINY = """
    [vm.web]
    machine = "{machine}"
    kernel = "{tiny}/vmlinuz"
    initrd = "{tiny}/initrd.gz"
    append = "{append} qorch.disk=rw"
    memory = "256MiB"
    accel = "tcg"
    cpus = 1
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.disk]]
    size = "32MiB"

    [[vm.web.nic]]
"""


@pytest.mark.parametrize("machine", ["q35", "microvm"])
def test_tiny(qorch_host: Host, tiny: Path, machine: str) -> None:
    """A Linux guest gets its planned address, writes its disk, serves a page, powers down."""
    append = (tiny / "cmdline").read_text().strip()
    if machine == "microvm":  # has neither HPET nor PM timer to calibrate the TSC by
        append += " tsc_early_khz=2000000"
    qorch_host.up(TINY.format(machine=machine, tiny=tiny, append=append))
    web = qorch_host.machine("web")
    page = dict(line.split(": ", 1) for line in web.fetch().splitlines())
    assert page["hostname"] == "web"
    assert page["cpus"] == "1"
    assert page["disk vda"] == f"{32 << 20} count=1 rw=ok"
    assert web.ip in page["nic eth0"]
    qorch_host.client.stop_machine("web", report=ignore, grace=60)
    assert "GUEST-POWERDOWN" in web.console_log
    assert web.show()["state"] == "stopped"
    qorch_host.client.start_machine("web", report=ignore, wait=180)
    assert "count=2 rw=ok" in web.fetch()


def test_names_resolve_between_guests(qorch_host: Host, tiny: Path) -> None:
    """Two guests on one network find each other by name."""
    append = (tiny / "cmdline").read_text().strip()
    text = TINY.format(machine="q35", tiny=tiny, append=append)
    qorch_host.up(text + text.replace("vm.web", "vm.db"))
    web = qorch_host.machine("web")
    web.type("wget -q -O - http://db.default/ | head -1\n")
    web.wait_console(r"^hostname: db")


@pytest.mark.slow
def test_debian(qorch_host: Host, debian: Path, tmp_path: Path) -> None:
    """Debian takes its host name, user and key from the seed; ssh works; `stop` powers it down."""
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    example = Path(__file__).parents[2] / "examples" / "debian.toml"
    text = example.read_text().replace("../.cache/guests/debian", str(debian))
    document = tmp_path / "debian.toml"
    document.write_text(text)
    done = qorch_host.qorch("up", document, "--wait", "600")
    assert done.returncode == 0, done.stderr
    (row,) = qorch_host.client.find_machines()
    guest = qorch_host.machine(row["name"])
    options = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path / 'known'}"]
    words = [word for option in options for word in ("-o", option)]
    ssh = qorch_host.run(
        shutil.which("ssh") or "ssh",
        *words,
        *("-o", "ConnectionAttempts=60", "-o", "ConnectTimeout=10", "-i", key),
        f"admin@{guest.ip}",
        "hostname; id -un; sudo id -u",
        check=False,
    )
    assert ssh.stdout.split() == ["debian", "admin", "0"], ssh.stderr
    done = qorch_host.qorch("stop", row["name"])
    assert done.returncode == 0, done.stderr
    assert guest.show()["state"] == "stopped"
    assert "reboot: Power down" in guest.console_log
