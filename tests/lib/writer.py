"""What the real-mode guest's writer leaves on a disk, read on the host; see files/bios/disk.h."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import Any

from qorch.client import Client
from qorch.testing import TestMachine
from qorch.testing.host import BOOT_DEADLINE

_VERIFIED = re.compile(r"GUEST-VERIFY (\w+) n=(\d+) bad=(\d+)\r?\n")
_AT = re.compile(r"GUEST-WRITER at n=(\d+)\r?\n")
_OFF = re.compile(r"GUEST-WRITER off n=(\d+)\r?\n")
_SECTOR, _START, _RECORDS, _STRIDE = 512, 8192, 32, 320
DISK = """
    [[vm.{name}.disk]]
    backing = "{bios}/disk.img"
    backing_format = "raw"
    size = "32MiB"

    [[vm.{name}.disk]]
    size = "32MiB"
"""
MACHINE = """
    [vm.{name}]
    memory = "64MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}
"""


def make_document(bios: Path, name: str = "web") -> str:
    """A machine whose writer has two disks."""
    return (MACHINE + DISK).format(name=name, bios=bios)


def start_writing(machine: TestMachine, at_least: int = 10) -> None:
    """Have the guest write, and wait until it has written some records on each disk."""
    machine.type("w")
    machine.wait_console(r"^GUEST-WRITER on")
    wait_written(machine, at_least)


def wait_written(machine: TestMachine, more: int = 10) -> int:
    """Wait until so many more records are on the disks; the number of the newest."""
    first = ask_written(machine)
    while (newest := ask_written(machine)) < first + more:
        pass
    return newest


def ask_written(machine: TestMachine) -> int:
    """The number of the record that the guest has written last."""
    before = _count(machine, _AT)
    machine.type("n")
    return int(_wait_more(machine, _AT, before + 1)[-1])


def verify(machine: TestMachine, disks: int = 2) -> dict[str, int]:
    """Have the guest verify its disks: none may have lost anything. The newest record of each."""
    before = _count(machine, _VERIFIED)
    machine.type("v")
    found = _wait_more(machine, _VERIFIED, before + disks)[before:]
    assert all(bad == "0" for _, _, bad in found), found
    return {drive: int(newest) for drive, newest, _ in found}


def stop_writing(machine: TestMachine) -> int:
    """Have the guest stop; the number of the last record."""
    before = _count(machine, _OFF)
    machine.type("w")
    return int(_wait_more(machine, _OFF, before + 1)[-1])


def _count(machine: TestMachine, pattern: re.Pattern[str]) -> int:
    """How often a line has been printed, also before the last power-on."""
    client = machine.host.client
    with client.open_log(machine.name) as chunks:
        return len(pattern.findall(b"".join(chunks).decode(errors="replace")))


def _wait_more(machine: TestMachine, pattern: re.Pattern[str], count: int) -> list[Any]:
    """Wait until a line has been printed so many times; all that were found."""
    client = Client(machine.host.state, start=False, seconds=BOOT_DEADLINE)
    with client, client.open_log(machine.name, follow=True) as chunks:
        text = ""
        for chunk in chunks:
            text += chunk.decode(errors="replace")
            if len(found := pattern.findall(text)) >= count:
                return found
    raise AssertionError(f"{machine.name} ended before it had printed {pattern.pattern!r} enough")


def read_records(image: Path, image_format: str, directory: Path) -> int:
    """The newest record in an image that nobody writes to; AssertionError if any before is lost."""
    raw = directory / "read.raw"
    subprocess.run(
        ["qemu-img", "convert", "-U", "-f", image_format, "-O", "raw", image, raw],
        check=True,
        capture_output=True,
    )
    data = raw.read_bytes()
    raw.unlink()
    found = [_read(data, place) for place in range(_RECORDS)]
    newest = max(found)
    oldest = max(1, newest - _RECORDS + 1)
    lost = [number for number in range(oldest, newest + 1) if found[number % _RECORDS] != number]
    assert not lost, f"{image}: of {newest} records, {lost} are lost"
    return newest


def _read(data: bytes, place: int) -> int:
    at = (_START + place * _STRIDE) * _SECTOR
    words = struct.unpack_from("<128I", data, at)
    number: int = words[0]
    wanted = (number, number ^ 0xFFFFFFFF, *(_word(number, index) for index in range(2, 128)))
    return number if words == wanted else 0


def _word(number: int, index: int) -> int:
    return (number * 2654435761 + index) & 0xFFFFFFFF


def check_images(*images: Path) -> None:
    """`qemu-img check` finds nothing wrong; AssertionError with what it says."""
    for image in images:
        done = subprocess.run(
            ["qemu-img", "check", "-U", image], check=False, capture_output=True, text=True
        )
        assert done.returncode in {0, 3, 63}, f"{image}: {done.stdout}{done.stderr}"
