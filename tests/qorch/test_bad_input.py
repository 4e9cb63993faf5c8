"""What people get wrong in a vm.toml, of all families: each is told with its place and a cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_host import plan_text

from qorch.capabilities.values import Emulator, MachineInfo
from qorch.errors import InputError

QEMU = Path("/usr/bin/qemu-system-x86_64")
EMULATOR = Emulator(
    version="9.1.0",
    machines={
        "pc-q35-9.1": MachineInfo(alias="q35", max_cpus=288, hotpluggable_cpus=True),
        "pc-i440fx-9.1": MachineInfo(alias="pc", max_cpus=255, hotpluggable_cpus=True),
        "microvm": MachineInfo(max_cpus=288),
    },
    cpu_models=frozenset({"max", "host", "Penryn"}),
    types=frozenset(),
)
MACHINE = """
[vm.web]
accel = "tcg"
disk = [{ size = "1MiB" }]
"""
_PARTS = re.split(
    r"^(---|\+\+\+) (\S+)\n",
    Path(__file__).with_name("bad_input.txt").read_text(),
    flags=re.MULTILINE,
)
CASES = [
    (path, text if kind == "+++" else MACHINE + text)
    for kind, path, text in zip(_PARTS[1::3], _PARTS[2::3], _PARTS[3::3], strict=True)
]


@pytest.mark.parametrize(("path", "text"), CASES)
def test_each_is_told_with_its_place_and_a_cure(path, text):
    """The first problem is the one that was made; every problem is a line and has a hint."""
    with pytest.raises(InputError) as caught:
        plan_text(text, emulators={QEMU: EMULATOR})
    problems = caught.value.problems
    assert problems[0].path == path
    for problem in problems:
        assert problem.path
        assert problem.message
        assert problem.hint
        assert "\n" not in str(problem)


def test_a_newline_in_a_path_makes_no_second_error():
    """An error is a line on the terminal."""
    with pytest.raises(InputError) as caught:
        plan_text(MACHINE + 'nic = [{ tap = "a\\nb" }]')
    assert len(caught.value.message.splitlines()) == 1
