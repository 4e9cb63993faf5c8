import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from qorch.capabilities.ask import find_emulator
from qorch.capabilities.values import name_machine
from qorch.errors import MachineError
from qorch.spec import MachineType

QEMU = """
import json, sys
open({log!r}, "a").write("run\\n")
answers = {{
    "query-version": {{"qemu": {{"major": 9, "minor": 1, "micro": 0}}}},
    "query-machines": [
        {{"name": "pc-q35-9.1", "alias": "q35", "cpu-max": 4, "hotpluggable-cpus": True}},
        {{"name": "pc-q35-9.0", "cpu-max": 2, "hotpluggable-cpus": True}},
    ],
    "query-cpu-definitions": [{{"name": "max"}}],
    "qom-list-types": [{{"name": "virtio-blk-pci"}}],
    "device-list-properties": [{{"name": "drive"}}],
}}
for line in sys.stdin:
    request = json.loads(line)
    if request.get("arguments", {{}}).get("typename") == "none":
        print(json.dumps({{"error": {{"class": "DeviceNotFound", "desc": "no"}}}}))
    else:
        print(json.dumps({{"return": answers.get(request["execute"], {{}})}}))
"""


@pytest.fixture
def qemu(tmp_path):
    """A QEMU that says little, and how often it was run."""
    path = tmp_path / "qemu"
    path.write_text(f"#!{sys.executable}\n{QEMU.format(log=str(tmp_path / 'log'))}")
    path.chmod(0o755)
    return path


def runs(qemu):
    """How often it was asked."""
    log = qemu.with_name("log")
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_binary_is_asked_once(qemu, tmp_path):
    """What it said is kept; properties are asked for when they are needed first."""
    first = find_emulator(qemu, tmp_path / "kept")
    assert (first.version, first.cpu_models) == ("9.1.0", {"max"})
    assert first.resolve(MachineType("q35")) == "pc-q35-9.1"
    assert first.resolve(MachineType("pc-q35-9.0")) == "pc-q35-9.0"
    assert first.resolve(MachineType("pc")) is None
    assert find_emulator(qemu, tmp_path / "kept") == first
    assert runs(qemu) == 1
    more = find_emulator(qemu, tmp_path / "kept", ["virtio-blk-pci", "none"])
    assert more.properties == {"virtio-blk-pci": {"drive"}, "none": None}
    assert find_emulator(qemu, tmp_path / "kept", ["none"]) == more
    assert runs(qemu) == 3  # what is no device is asked as what it is


@pytest.mark.parametrize("bad", [4, 5])
def test_a_quit_that_comes_too_early(qemu, tmp_path, bad):
    """A QEMU that ends before all it said is written is asked again, but not for ever."""
    whole = tmp_path / "whole"
    qemu.rename(whole)
    runs = f'[ $(wc -l <"{tmp_path}/log") -gt {bad} ]'
    qemu.write_text(
        f'#!/bin/sh\n"{whole}" >"$0.out"; {runs} || exec head -c 300 "$0.out"\ncat "$0.out"'
    )
    qemu.chmod(0o755)
    if bad == 4:
        assert find_emulator(qemu, tmp_path / "kept").version == "9.1.0"
    else:
        with pytest.raises(MachineError, match="does not say what it has"):
            find_emulator(qemu, tmp_path / "kept")
    assert (tmp_path / "log").read_text() == "run\n" * 5


def test_another_binary_of_that_name_is_asked_anew(qemu, tmp_path):
    """An upgrade has another size or time."""
    find_emulator(qemu, tmp_path / "kept")
    os.utime(qemu, ns=(1, 1))
    find_emulator(qemu, tmp_path / "kept")
    assert runs(qemu) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 0}', '{"format": 1}'])
def test_what_is_kept_may_be_damaged(qemu, tmp_path, text):
    """Then it is asked again."""
    find_emulator(qemu, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_text(text)
    assert find_emulator(qemu, tmp_path / "kept").version == "9.1.0"
    assert json.loads(kept.read_text())["version"] == "9.1.0"


def test_where_nothing_can_be_kept_it_is_asked_each_time(qemu, tmp_path):
    """A directory that cannot be made is no reason to fail."""
    (tmp_path / "kept").touch()
    assert find_emulator(qemu, tmp_path / "kept").version == "9.1.0"


def test_a_binary_that_says_nothing_is_an_error(qemu, tmp_path):
    """With its last words."""
    qemu.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    with pytest.raises(MachineError, match="does not say what it has") as caught:
        find_emulator(qemu, tmp_path)
    assert caught.value.hint == "no display"
    with pytest.raises(MachineError, match="No such file"):
        find_emulator(tmp_path / "gone", tmp_path)


def test_the_installed_qemu_says_what_it_has(tmp_path):
    """Machine types with their aliases, models, devices with their properties."""
    found = shutil.which("qemu-system-x86_64")
    assert found
    emulator = find_emulator(Path(found), tmp_path, ["virtio-blk-pci", "isa-serial"])
    newest = emulator.resolve(MachineType("q35"))
    assert newest is not None
    assert newest.startswith("pc-q35-")
    assert emulator.machines[newest].max_cpus >= 255
    assert {"max", "qemu64"} <= emulator.cpu_models
    assert {"virtio-blk-pci", "rng-random"} <= emulator.types
    assert "serial" in emulator.properties["virtio-blk-pci"]
    machine = name_machine(newest)
    kinds = [machine, "microvm-machine", "virtio-pci", "virtoi-pci"]
    properties = find_emulator(Path(found), tmp_path, kinds).properties
    assert "nvdimm" in properties[machine]
    assert "ats" in properties["virtio-pci"]  # a kind of devices
    assert properties["virtoi-pci"] is None
