"""scripts/testbed: what its VM is made of, and what it is told."""

from __future__ import annotations

import lzma
import struct
import subprocess
from pathlib import Path

import pytest
from guests.cache import BuildError
from guests.kernel import Kernel
from guests.testbed import extract_elf, find_wanted
from testvm.request import Request, make_assignments, make_document

from qorch.load import load_document

# -- what the VM is made of ------------------------------------------------------------------------


def make_image(payload: bytes, setup_sectors: int = 4) -> bytes:
    """Make what a bzImage looks like to a boot loader."""
    header = bytearray((setup_sectors + 1) * 512)
    header[0x1F1] = setup_sectors
    struct.pack_into("<II", header, 0x248, 16, len(payload))
    return bytes(header) + b"decompressor..  " + payload + b"padding"


def test_the_kernel_is_taken_out_of_its_image():
    """The ELF in an xz-packed bzImage comes out, whatever follows it."""
    elf = b"\x7fELF" + bytes(1000)
    assert extract_elf(make_image(lzma.compress(elf) + b"size")) == elf


def test_another_packing_is_refused():
    """A kernel that is not packed with xz is an error that says so."""
    with pytest.raises(BuildError, match="xz"):
        extract_elf(make_image(b"\x02\x21\x4c\x18 lz4"))


def test_modules_are_wanted_by_pattern():
    """Modules go along by name and by pattern."""
    modules = dict.fromkeys(("8021q", "nft_nat", "amdgpu", "9p"), b"")
    kernel = Kernel(vmlinuz=b"", modules=modules, builtin=frozenset())
    assert find_wanted(kernel) == ["8021q", "9p", "nft_nat"]


# -- what it is told -------------------------------------------------------------------------------


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """What the document needs of a built VM."""
    (tmp_path / "cmdline").write_text("console=ttyS0\n")
    return tmp_path


def test_the_document_is_a_vm_toml(guest: Path, tmp_path: Path) -> None:
    """The VM is described in qorch's own words: nothing is unknown or refused."""
    request = Request(
        command=("true",),
        directory=Path("/"),
        environment={},
        disks=("1GiB", "2GiB"),
        writable=(tmp_path,),
    )
    spec = load_document(make_document(request, guest, tmp_path / "initrd", tmp_path), Path("/"))
    (vm,) = spec.vms.values()
    assert [(share.tag, share.path, share.read_only) for share in vm.shares] == [
        ("root", Path("/"), True),
        ("rw0", tmp_path, False),
    ]
    assert [channel.name for channel in vm.channels] == ["stdout", "stderr", "status"]
    assert len(vm.disks) == 2


def test_assignments_are_quoted():
    """A shell that reads the variables has them as they were."""
    value = 'it\'s $HOME; `ls`\nand "more"'
    script = make_assignments({"a": value}).decode() + 'printf %s "$a"'
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == value
