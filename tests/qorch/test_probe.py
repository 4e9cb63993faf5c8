import os
from pathlib import Path

import pytest

from qorch.cmdline import make_words
from qorch.errors import InputError, NotFoundError
from qorch.load import load_text
from qorch.paths import StateDir
from qorch.probe import find_kvm, probe
from qorch.spec import Spec

TWO = "[vm.a]\nkernel = '/proc/version'\n[vm.b]\nkernel = '/proc/version'\n"


@pytest.mark.parametrize(
    ("cpuinfo", "hardware"),
    [
        ("flags\t\t: fpu vmx\n", True),
        ("processor: 0\nflags : svm fpu\n", True),
        ("flags : fpu vmx_x\nvmx flags : vnmi\n", False),
        ("", False),
    ],
)
def test_kvm_is_usable_with_vmx_or_svm(tmp_path, cpuinfo, hardware):
    """Both the device and the CPU's flag; a word that only looks like it does not count."""
    (tmp_path / "kvm").touch()
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    kvm = find_kvm(tmp_path / "kvm", tmp_path / "cpuinfo")
    assert (kvm.error, kvm.hardware, kvm.usable) == (None, hardware, hardware)


def test_a_kvm_that_does_not_open_says_why(tmp_path):
    """The device and the reason."""
    kvm = find_kvm(tmp_path / "kvm")
    assert kvm.error == f"{tmp_path}/kvm does not open: No such file or directory"
    assert not kvm.usable


def test_probing_changes_nothing(tmp_path):
    """What the document names is looked at, what is missing is said, nothing is made."""
    text = """
[vm.web]
kernel = "k"
initrd = "directory"
disk = [{ path = "no.raw" }, { path = "d.raw" }]
cloud_init = { user = [{ name = "a", ssh_key_files = ["key", "binary"] }] }
"""
    (tmp_path / "k").write_bytes(b"\x7fELF\2")
    (tmp_path / "directory").mkdir()
    (tmp_path / "d.raw").write_bytes(bytes(512))
    (tmp_path / "key").write_text("ssh-ed25519 A\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    before = sorted(tmp_path.rglob("*"))
    spec = load_text(text, tmp_path)
    facts = probe(spec, StateDir.from_directory(tmp_path / "state"), ask=False)
    assert sorted(tmp_path.rglob("*")) == before
    assert facts.cpus == os.sched_getaffinity(0)
    assert {path.name: file.error for path, file in facts.files.items()} == {
        "k": None,
        "directory": f"{tmp_path}/directory: Is a directory",
        "key": None,
        "binary": f"{tmp_path}/binary is not a text file",
    }
    assert facts.files[tmp_path / "key"].text == "ssh-ed25519 A\n"
    assert facts.files[tmp_path / "k"].elf
    assert [image.virtual_size for image in facts.images[tmp_path / "d.raw"].chain] == [512]
    assert "no.raw does not exist" in facts.images[tmp_path / "no.raw"].error


def test_volumes_that_are_there_are_seen(tmp_path):
    """In every pool of the document and in the built-in one."""
    state = StateDir.from_directory(tmp_path / "state")
    for path in (state.default_pool / "a.qcow2", tmp_path / "pool/b.raw"):
        path.parent.mkdir(parents=True)
        path.touch()
    spec = load_text("[pool.fast]\npath = 'pool'\n[pool.gone]\npath = 'gone'\n", tmp_path)
    assert {path.name for path in probe(spec, state).volumes} == {"a.qcow2", "b.raw"}


def test_programs_are_found_outside_of_path(tmp_path, monkeypatch):
    """Dnsmasq lies in /usr/sbin; what is nowhere is not among the facts."""
    spec, state = Spec(), StateDir.from_directory(tmp_path)
    everything = probe(spec, state).programs
    monkeypatch.setenv("PATH", str(tmp_path))
    hidden = probe(spec, state).programs
    assert set(hidden) == {name for name, at in everything.items() if at.parent.name != "bin"}


def test_the_command_line_of_one_machine_is_shown(tmp_path):
    """The one that is named, or the only one."""
    state = StateDir.from_directory(tmp_path / "state")
    one = TWO.partition("[vm.b]")[0]
    words, _ = make_words(one, tmp_path, "vm.toml", None, state)
    assert make_words(TWO, tmp_path, "vm.toml", "a", state)[0] == words
    assert "guest=a,debug-threads=on" in words
    assert list(tmp_path.iterdir()) == []


def test_which_machine_must_be_clear(tmp_path):
    """With two one is asked for, with none of that name it is said which there are."""
    state = StateDir.from_directory(tmp_path)
    with pytest.raises(InputError, match=r"vm\.toml: has 2 machines"):
        make_words(TWO, tmp_path, "vm.toml", None, state)
    with pytest.raises(NotFoundError, match="has no machine 'c'") as caught:
        make_words(TWO, Path("/"), "vm.toml", "c", state)
    assert caught.value.hint == "it has a, b"
    with pytest.raises(InputError, match="has no machines") as caught:
        make_words("[network.lan]\n", Path("/"), "vm.toml", None, state)
    assert caught.value.hint == "[vm.NAME] is one"
