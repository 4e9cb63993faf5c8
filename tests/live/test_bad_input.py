"""Bad input: one clear error with a hint, the right exit status, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qorch.testing import Host

pytestmark = pytest.mark.live

GOOD = '[vm.web]\nmemory = "64MiB"\naccel = "tcg"\n[[vm.web.disk]]\nsize = "1MiB"\n'

CASES = {
    "broken TOML": ("[vm.web\n", "not TOML", "quotes"),
    "unknown key": (GOOD.replace("memory", "memroy"), "vm.web.memroy: unknown key", "'memory'"),
    "wrong type": ("[vm.web]\ncpus = true\n", "vm.web.cpu.count: ", None),
    "size without a unit": (GOOD.replace("64MiB", "64"), "vm.web.memory.size: ", None),
    "missing kernel": ('[vm.web]\nkernel = "no-such-kernel"\n', "vm.web.kernel: ", None),
    "missing backing file": (
        GOOD.replace('size = "1MiB"', 'backing = "base.qcow2"'),
        "vm.web.disk[0].backing: ",
        None,
    ),
    "no host name": (GOOD.replace("vm.web", "vm.We_b"), "We_b", None),
    "unknown pool": (GOOD + 'pool = "fast"\n', "vm.web.disk[0].pool: ", "known pools"),
    "unknown network": (
        GOOD + '[[vm.web.nic]]\nnetwork = "lan"\n',
        "vm.web.nic[0].network: ",
        "[network.lan]",
    ),
    "duplicate MAC": (
        GOOD + '[[vm.web.nic]]\nmac = "52:54:00:00:00:01"\n' * 2,
        "52:54:00:00:00:01 belongs to vm.web.nic[0]",
        None,
    ),
    "subnet in use": (
        GOOD + '[network.lan]\nsubnet = "127.0.0.0/24"\n[[vm.web.nic]]\nnetwork = "lan"\n',
        "127.0.0.0/24",
        "choose a subnet",
    ),
    "bad DHCP option": (
        GOOD + '[network.lan]\ndhcp = { options = { ntp-sever = "10.0.0.1" } }\n',
        "network.lan.dhcp.options.ntp-sever: '10.0.0.1' cannot be: dnsmasq says: bad dhcp-option",
        "dnsmasq --help dhcp",
    ),
    "nothing to boot": ("[vm.web]\n", "nothing to boot", "disk"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_document(qorch_host: Host, tmp_path: Path, case: str) -> None:
    """Each bad document ends with exit status 2, its place named, and the host untouched."""
    text, message, hint = CASES[case]
    document = tmp_path / "vm.toml"
    document.write_text(text)
    done = qorch_host.qorch("up", document)
    assert done.returncode == 2, done.stderr
    assert f"error: {message}" in done.stderr or message in done.stderr
    assert "Traceback" not in done.stderr
    if hint is not None:
        assert hint in done.stderr.partition("hint: ")[2]
    assert qorch_host.client.find_machines() == []
    assert qorch_host.find_leftovers() == []


def test_two_problems_at_once(qorch_host: Host, tmp_path: Path) -> None:
    """Two problems are both shown, each with its path."""
    document = tmp_path / "vm.toml"
    document.write_text(GOOD.replace("64MiB", "64Q").replace("1MiB", "1"))
    done = qorch_host.qorch("up", document)
    assert done.returncode == 2
    assert "error: vm.web.memory.size: '64Q'" in done.stderr
    assert "error: vm.web.disk[0].size: '1'" in done.stderr


def test_missing_programs(qorch_host: Host, tmp_path: Path) -> None:
    """Without qemu, qemu-img and dnsmasq, each is named with the package that has it."""
    document = tmp_path / "vm.toml"
    document.write_text(GOOD + "[[vm.web.nic]]\n")
    empty = tmp_path / "bin"
    empty.mkdir()
    script = (
        "import shutil, os\n"
        "shutil.which = lambda name, path=None: None\n"  # a machine that has none of them
        "from qorch.cli import main\nmain()\n"
    )
    done = qorch_host.run(
        *(sys.executable, "-c", script, "--state-dir", qorch_host.directory),
        *("up", "--foreground", document),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    for program in ("qemu-system-x86_64", "qemu-img", "dnsmasq"):
        assert f"{program} is not installed" in done.stderr
    assert "apt-get install qemu-system-x86" in done.stderr


def test_no_kvm(qorch_host: Host, tmp_path: Path) -> None:
    """`accel = "kvm"` never falls back: without /dev/kvm the words are KVM's, and it is said."""
    document = tmp_path / "vm.toml"
    document.write_text(GOOD.replace('"tcg"', '"kvm"'))
    hidden = (
        "mount -t tmpfs none /dev && "
        f"exec {sys.executable} -m qorch --state-dir {qorch_host.directory} cmdline {document}"
    )
    done = qorch_host.run("unshare", "--mount", "sh", "-c", hidden, check=False)
    assert done.returncode == 0, done.stderr
    assert "-enable-kvm" in done.stdout.splitlines()
    assert "warning: vm.web.accel: /dev/kvm" in done.stderr


def test_no_such_thing(qorch_host: Host) -> None:
    """A machine that is not there: exit status 3 from every verb that names one."""
    for verb in ("show", "start", "stop", "restart", "kill", "rm", "ip", "log", "console"):
        done = qorch_host.qorch(verb, "nobody")
        assert done.returncode == 3, (verb, done.stderr)
        assert "there is no machine 'nobody'" in done.stderr


def test_a_supervisor_that_cannot_start_says_why(qorch_host: Host) -> None:
    """A damaged record: the client that started it names the file, each time."""
    damaged = qorch_host.state.data / "pool" / "fast.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"half": ')
    for _ in range(3):
        done = qorch_host.qorch("pool", "ls")
        assert done.returncode == 1
        assert f"{damaged} cannot be read" in done.stderr
    damaged.unlink()


def test_cmdline_touches_nothing(tmp_path: Path) -> None:
    """`qorch cmdline` prints QEMU's words one per line and makes neither file nor process."""
    document = tmp_path / "vm.toml"
    document.write_text(GOOD)
    state = tmp_path / "state"
    done = subprocess.run(
        [sys.executable, "-m", "qorch", "--state-dir", state, "cmdline", document],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"QORCH_STATE_DIR": ""},
    )
    words = done.stdout.splitlines()
    assert words[0].endswith("qemu-system-x86_64")
    assert words[words.index("-m") + 1] == "size=64M"
    assert not state.exists()
