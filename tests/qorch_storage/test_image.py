"""Images are looked at without being trusted, and chains are sound or refused."""

from __future__ import annotations

import os
import random
import struct
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qorch_storage.errors import StorageError
from qorch_storage.image import MAX_CHAIN, find_chain, find_header_format, find_image
from qorch_storage.plan import ImageFormat

MIB = 1 << 20
RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2


@pytest.fixture
def overlay(tmp_path, qemu_img):
    """Make an overlay of any name on any name, unchecked; without `form`, format unsaid."""

    def make(name, backing, form="raw", size="1M"):
        path = tmp_path / name
        # qemu-img 7.2 makes no overlay without a format: there the format is blotted out
        words = ["-u", "-b", backing, "-F", form or "raw", path, size]
        qemu_img("create", "-q", "-f", "qcow2", *words)
        if form is None:
            data = path.read_bytes()
            path.write_bytes(data.replace(struct.pack(">I", 0xE2792ACA), b"none", 1))
        return path

    return make


def test_raw(base):
    """A raw image is as large as its file, rounded up to a sector as QEMU does."""
    os.truncate(base, MIB + 1)
    image = find_image(base)
    assert (image.format, image.virtual_size, image.backing_file) == (RAW, MIB + 512, None)
    assert image.allocation == base.stat().st_blocks * 512


def test_raw_that_looks_otherwise(overlay):
    """A guest can write any header into its raw disk: it is shown, never followed."""
    path = overlay("a.raw", "/etc/passwd")
    image = find_image(path, RAW)
    assert (image.format, image.header_format) == (RAW, QCOW2)
    assert image.backing_file is None
    assert find_chain(path) == (image,)


@pytest.mark.parametrize("name", ["vmdk", "vdi", "qed", "qcow2", "raw"])
def test_every_format(tmp_path, qemu_img, name):
    """What qemu-img makes is recognised by its first bytes and has the size asked for."""
    path = tmp_path / f"a:b,c.{name}"
    qemu_img("create", "-q", "-f", name, path, 3 * MIB)
    image = find_image(path)
    assert image.format == image.header_format == find_header_format(path) == name
    assert image.virtual_size == 3 * MIB
    assert not image.encrypted


def test_broken_image_of_another_format(tmp_path):
    """What only looks like LUKS is refused with qemu-img's own words."""
    path = tmp_path / "a.luks"
    path.write_bytes(b"LUKS\xba\xbe" + b"\xff" * 600)
    assert find_header_format(path) is ImageFormat.LUKS
    with pytest.raises(StorageError, match=r"qemu-img failed with status 1: .*LUKS"):
        find_image(path)


def test_other_formats_chain(tmp_path, qemu_img, base):
    """A chain through formats that cost a process is found like any other."""
    middle, top = tmp_path / "middle.qed", tmp_path / "top.qcow2"
    qemu_img("create", "-q", "-f", "qed", "-b", base, "-F", "raw", middle)
    qemu_img("create", "-q", "-f", "qcow2", "-b", middle, "-F", "qed", top)
    assert [link.format for link in find_chain(top)] == ["qcow2", "qed", "raw"]


def test_missing_image(tmp_path):
    """No file is `None` where looking is asked for, an error where a chain is."""
    assert find_image(tmp_path / "no.raw") is None
    assert find_header_format(tmp_path / "no") is None
    with pytest.raises(StorageError, match="does not exist"):
        find_chain(tmp_path / "no.raw")


def test_format_is_never_guessed(base, tmp_path):
    """Without a telling suffix the format must be given."""
    unclear = base.rename(tmp_path / "base.img")
    with pytest.raises(StorageError, match="would have to be guessed"):
        find_image(unclear)
    assert find_image(unclear, RAW).format is RAW


def test_wrong_format(base):
    """A file of another format than given is an error that says what it looks like."""
    with pytest.raises(StorageError, match=r"is not a qcow2 image: .* raw"):
        find_image(base, QCOW2)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_no_image_at_all(tmp_path, make):
    """A directory or a FIFO is refused at once, without waiting for a writer."""
    path = tmp_path / "x.raw"
    make(path)
    with pytest.raises(StorageError, match="neither a file nor a block device"):
        find_image(path)


@pytest.mark.parametrize("name", ["base.raw/x.raw", "x" * 300 + ".raw", "a\0b.raw"])
def test_paths_that_cannot_be(base, name):
    """A path that the kernel refuses is one clear error."""
    with pytest.raises(StorageError, match="cannot read"):
        find_image(base.parent / name)


def test_chain(overlay, base):
    """A chain is found from the top to the base; relative names begin at the overlay."""
    (base.parent / "sub").mkdir()
    overlay("sub/middle.qcow2", "../base.raw")
    top = overlay("top.qcow2", "sub/middle.qcow2", "qcow2")
    chain = find_chain(top)
    assert [link.path.name for link in chain] == ["top.qcow2", "middle.qcow2", "base.raw"]
    assert [link.format for link in chain] == [QCOW2, QCOW2, RAW]


def test_missing_parent(overlay):
    """The error names the missing file and what refers to it."""
    top = overlay("top.qcow2", "gone.raw")
    with pytest.raises(StorageError, match=r"gone\.raw \(backing file of .*top\.qcow2\)"):
        find_chain(top)


def test_parent_of_another_format(overlay, base):
    """The error names the parent whose content is not what its overlay says."""
    top = overlay("top.qcow2", base, "qcow2")
    with pytest.raises(StorageError, match=r"backing file of .*top\.qcow2: .*base\.raw is not a"):
        find_chain(top)


def test_loops(overlay):
    """An image that builds on itself, even by way of others or links, is refused."""
    overlay("a.qcow2", "b.qcow2", "qcow2")
    top = overlay("b.qcow2", "link.qcow2", "qcow2")
    top.with_name("link.qcow2").symlink_to("a.qcow2")
    with pytest.raises(StorageError, match="builds on itself"):
        find_chain(top)


def test_long_chains(overlay, base):
    """A chain of absurd length is refused instead of followed."""
    data = overlay("any.qcow2", "0000.qcow2", "qcow2").read_bytes()
    overlay("0000.qcow2", "base.raw")
    names = [f"{index:04}.qcow2" for index in range(MAX_CHAIN + 1)]
    for parent, name in pairwise(names):
        (base.parent / name).write_bytes(data.replace(b"0000.qcow2", parent.encode()))
    assert len(find_chain(base.parent / names[-3])) == MAX_CHAIN
    with pytest.raises(StorageError, match=f"more than {MAX_CHAIN} images"):
        find_chain(base.parent / names[-2])


def test_backing_format_missing(overlay, base):
    """A backing file whose format would have to be probed is refused."""
    with pytest.raises(StorageError, match="without saying in which format"):
        find_chain(overlay("top.qcow2", base, None))


@pytest.mark.parametrize("name", ["nbd://host/x", 'json:{"driver":"file"}', "file:/etc/passwd"])
def test_backing_that_is_no_path(overlay, name):
    """A backing name that makes QEMU open something else than a path is refused."""
    with pytest.raises(StorageError, match="not the path of a file"):
        find_chain(overlay("top.qcow2", name))


def test_unknown_backing_format(overlay, base):
    """A backing format that we do not know is refused."""
    path = overlay("top.qcow2", base, "vpc")
    with pytest.raises(StorageError, match="unknown format 'vpc'"):
        find_chain(path)


def test_external_data(tmp_path, qemu_img):
    """An image that would have QEMU open another file for its data is refused."""
    path = tmp_path / "a.qcow2"
    options = f"data_file={tmp_path}/secret"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "1M")
    with pytest.raises(StorageError, match=r"keeps its data in another file, .*/secret"):
        find_chain(path)


def test_corrupt_image(overlay, base):
    """An image marked as corrupt is refused before QEMU refuses it."""
    path = overlay("a.qcow2", base)
    with path.open("r+b") as file:
        file.seek(79)
        file.write(b"\2")
    assert find_image(path).corrupt
    with pytest.raises(StorageError, match="marked as corrupt"):
        find_chain(path)


def test_absurd_size(overlay, base):
    """An image claiming more than QEMU's limits is named and refused."""
    path = overlay("a.qcow2", base)
    with path.open("r+b") as file:
        file.seek(24)
        file.write(b"\x7f" * 8)
    with pytest.raises(StorageError, match=r"a\.qcow2 is not a usable qcow2 image") as caught:
        find_chain(path)
    assert caught.value.hint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.integers(0, 40))
def test_any_corruption_is_a_clear_error(overlay, base, seed, flips):
    """A chain whose head is corrupted anywhere is found or refused by StorageError."""
    path = base.with_name("a.qcow2")
    good = path.read_bytes() if path.exists() else overlay("a.qcow2", "base.raw").read_bytes()
    chance = random.Random(seed)  # noqa: S311 corruption, no secret
    bad = bytearray(good)
    for _ in range(flips):
        bad[chance.randrange(4, 200)] = chance.randrange(256)
    path.write_bytes(bad)
    with suppress(StorageError):
        find_chain(path)
    path.write_bytes(good)
