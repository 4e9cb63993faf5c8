"""Pools and volumes through the command line and the API, beside machines that use them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from qorch.api.rendezvous import COMMAND
from qorch.client import ClientError
from qorch.testing import Host

pytestmark = pytest.mark.live

WEB = """
    [pool.images]
    path = "{pool}"

    [volume.data]
    pool = "images"
    size = "2MiB"
    format = "raw"

    [volume.spare]
    size = "1MiB"

    [vm.web]
    memory = "64MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.disk]]
    backing = "{base}"

    [[vm.web.disk]]
    volume = "data"
"""


def ask(host: Host, *words: str | Path) -> object:
    """What a verb with --json prints."""
    done = host.qorch(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refuse(host: Host, message: str, *words: str | Path, status: int = 1) -> None:
    """A verb fails with one error that has these words, and a hint."""
    done = host.qorch(*words)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == status, done.stderr
    assert [message in error for error in errors] == [True], done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def do(host: Host, *words: str | Path) -> str:
    """A verb that works, and what it prints."""
    done = host.qorch(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pools_of_documents(qorch_host: Host, bios_disk: Path, tmp_path: Path) -> None:
    """A document's pool is known while machines use it, after a crash, too; its files stay."""
    text = WEB.format(pool=tmp_path / "images", base=bios_disk)
    qorch_host.up(text)
    qorch_host.kill_supervisor()
    assert [row["name"] for row in ask(qorch_host, "pool", "ls")] == ["default", "images"]
    pool = ask(qorch_host, "pool", "show", "images")
    assert (pool["machines"], pool["volumes"], pool["promised"]) == (["web"], 1, 2 << 20)
    rows = {row["name"]: row for row in ask(qorch_host, "volume", "ls")}
    assert rows["data.raw"]["machines"] == rows["web-disk0.qcow2"]["machines"] == ["web"]
    tree = ask(qorch_host, "volume", "tree")
    assert [child["name"] for node in tree for child in node["children"]] == ["web-disk0.qcow2"]
    assert "└─ default/web-disk0.qcow2" in do(qorch_host, "volume", "tree")
    qorch_host.down(text, volumes=False)
    assert [row["name"] for row in ask(qorch_host, "pool", "ls")] == ["default"]
    assert (tmp_path / "images" / "data.raw").exists()
    assert qorch_host.find_leftovers() == []


def test_volumes_of_a_machine(qorch_host: Host, bios_disk: Path, tmp_path: Path) -> None:
    """What a machine has as a disk is not removed, and not changed while it runs."""
    text = WEB.format(pool=tmp_path / "images", base=bios_disk)
    qorch_host.up(text)
    pid = qorch_host.machine("web").show()["pid"]
    holder = f"in use by machine web (pid {pid})"
    refuse(qorch_host, "is a disk of web", "volume", "rm", "images/data")
    refuse(qorch_host, "is a disk of web", "volume", "wipe", "web-disk0")
    refuse(qorch_host, holder, "volume", "resize", "images/data", "4MiB")
    refuse(qorch_host, holder, "volume", "clone", "images/data", "copy")
    shown = ask(qorch_host, "volume", "show", "images/data")
    assert [item["machine"] for item in shown["holders"]] == ["web"]
    qorch_host.client.kill_machine("web", report=lambda _line: None)
    refuse(qorch_host, "is a disk of web", "volume", "rm", "images/data")
    do(qorch_host, "volume", "resize", "images/data", "4MiB")
    do(qorch_host, "volume", "clone", "web-disk0", "over", "--mode", "linked")
    with pytest.raises(ClientError, match=r"is the backing file of default/over\.qcow2"):
        qorch_host.client.start_machine("web", report=lambda _line: None)
    do(qorch_host, "volume", "rm", "over")
    qorch_host.client.start_machine("web", report=lambda _line: None)
    qorch_host.down(text)
    assert not (tmp_path / "images" / "data.raw").exists()
    assert ask(qorch_host, "volume", "ls") == []
    assert qorch_host.find_leftovers() == []


def test_image_of_another_qemu(qorch_host: Host, bios_disk: Path) -> None:
    """A machine whose image another process writes does not start; the error says who it is."""
    words = ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-qmp", "stdio"]
    words += ["-drive", f"file={bios_disk},format=raw,if=virtio"]
    text = f'[vm.web]\nmemory = "64MiB"\naccel = "tcg"\n[[vm.web.disk]]\npath = "{bios_disk}"\n'
    with subprocess.Popen(words, stdin=-1, stdout=-1, text=True) as qemu:
        assert qemu.stdout is not None
        qemu.stdout.readline()
        with pytest.raises(ClientError, match=rf"in use by qemu-system-x86.* \(pid {qemu.pid}\)"):
            qorch_host.up(text)
        qemu.kill()
    assert qorch_host.client.find_machines() == []
    assert qorch_host.find_leftovers() == []


def test_image_that_claims_a_file_of_the_host(qorch_host: Host, tmp_path: Path) -> None:
    """An image whose parent lies in no pool is refused; a pool around it makes it known."""
    far = tmp_path / "far"
    far.mkdir()
    (far / "secret.raw").write_bytes(b"secret".ljust(1 << 20))
    evil = tmp_path / "evil.qcow2"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", far / "secret.raw", evil]
    subprocess.run(words, check=True)
    text = '[vm.web]\nmemory = "64MiB"\naccel = "tcg"\n[[vm.web.disk]]\n'
    for key in ("path", "backing"):
        document = tmp_path / "vm.toml"
        document.write_text(f'{text}{key} = "{evil}"\n')
        refuse(qorch_host, "which lies in no pool", "up", document, status=2)
    document.write_text(f'[pool.far]\npath = "{far}"\n{text}path = "{evil}"\n')
    do(qorch_host, "plan", document)
    assert qorch_host.find_leftovers() == []


def test_bad_input(qorch_host: Host, tmp_path: Path) -> None:
    """Each bad input is one clear error with a hint, and nothing is made."""
    (tmp_path / "bad.qcow2").write_bytes(b"QFI\xfb" + b"\xff" * 512)
    host = qorch_host
    refuse(host, "not a volume size", "volume", "create", "a", "--size", "0MiB", status=2)
    refuse(host, "'raww' is not one of", "volume", "create", "a", "--format", "raww", status=2)
    refuse(host, "is not a volume", "volume", "create", "default/a/b", "--size", "1MiB", status=2)
    refuse(host, "there is no pool 'x'", "volume", "create", "x/a", "--size", "1MiB", status=3)
    refuse(host, "there is no volume 'a'", "volume", "rm", "a", status=3)
    refuse(host, "has no size", "volume", "create", "a", status=2)
    refuse(host, "may be of any format", "volume", "import", "x.img", "a", status=2)
    refuse(host, "not a usable qcow2", "volume", "import", tmp_path / "bad.qcow2", "a")
    refuse(host, "cannot have one", "volume", "create", "a", "--size", "1MiB", "--format", "raw",
           "--backing", tmp_path / "b.raw", status=2)  # fmt: skip
    assert ask(host, "volume", "ls") == []
    do(host, "volume", "create", "a", "--size", "2MiB")
    refuse(host, "would cut", "volume", "resize", "a", "1MiB")
    refuse(host, "exists already", "volume", "create", "a", "--size", "1MiB")
    assert ask(host, "volume", "show", "a")["size"] == 2 << 20
    assert qorch_host.find_leftovers() == []


def test_streams(qorch_host: Host, tmp_path: Path) -> None:
    """A volume comes from standard input and goes to standard output, with its holes."""
    content = tmp_path / "content.raw"
    with content.open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.truncate(64 << 20)
    out = tmp_path / "out.raw"
    packed = tmp_path / "packed.qcow2"
    command = " ".join([*map(str, COMMAND), "--state-dir", str(qorch_host.directory)])
    qorch_host.run("sh", "-ec", f"""
        {command} volume import - a --source-format raw --format qcow2 < {content}
        {command} volume export a - --format raw > {out}
        {command} volume export a - --format qcow2 --compress | cat > {packed}
    """)  # fmt: skip
    qorch_host.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", content, packed)
    assert out.read_bytes() == content.read_bytes()
    assert out.stat().st_blocks * 512 < 4 << 20
    assert qorch_host.find_leftovers() == []


def test_stale_files_after_a_kill(qorch_host: Host) -> None:
    """What a supervisor that was killed left in the making is removed by the next one."""
    do(qorch_host, "volume", "create", "a", "--size", "1MiB")
    pool = qorch_host.state.default_pool
    qorch_host.kill_supervisor()
    (pool / ".qorch-tmp-dead").write_bytes(b"half")
    (pool / ".qorch-wipe-dead").write_bytes(b"half")
    (pool / "mine.txt").write_text("hello")
    do(qorch_host, "volume", "ls")
    assert sorted(path.name for path in pool.iterdir()) == ["a.qcow2", "mine.txt"]
    assert qorch_host.find_leftovers() == []


def test_volumes_of_a_machine_that_never_ran(qorch_host: Host, tmp_path: Path) -> None:
    """A QEMU that ends at once leaves no volume that was made for it; one that was there stays."""
    do(qorch_host, "volume", "create", "mine", "--size", "1MiB")
    text = '[vm.web]\nmemory = "64MiB"\naccel = "tcg"\n[[vm.web.disk]]\nsize = "1MiB"\n'
    text += 'format_options = { "no-such-option" = true }\n'
    with pytest.raises(ClientError, match="no-such-option"):
        qorch_host.up(text)
    assert [row["name"] for row in ask(qorch_host, "volume", "ls")] == ["mine.qcow2"]
    assert qorch_host.client.find_machines() == []
    assert qorch_host.find_leftovers() == []
