"""The header parser believes nothing, and agrees with QEMU."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qorch_storage.errors import StorageError
from qorch_storage.image import find_image
from qorch_storage.plan import ImageFormat
from qorch_storage.qcow2 import MAGIC, parse_header

MIB = 1 << 20


@pytest.fixture(scope="session")
def header(tmp_path_factory, qemu_img):
    """The first cluster of a version 3 overlay with all usual extensions."""
    path = tmp_path_factory.mktemp("header") / "a.qcow2"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "base.raw", path, "10G")
    return path.read_bytes()[: 1 << 16]


def make_header(header, **fields):
    """Change fields of a header: name → (offset, struct format, value)."""
    data = bytearray(header)
    for offset, form, value in fields.values():
        struct.pack_into(form, data, offset, value)
    return bytes(data)


def test_fields(header):
    """An ordinary overlay's header gives its size, backing name and backing format."""
    parsed = parse_header(header)
    assert (parsed.version, parsed.cluster_size, parsed.virtual_size) == (3, 1 << 16, 10 << 30)
    assert (parsed.backing_file, parsed.backing_format) == ("base.raw", "raw")
    assert not any((parsed.encrypted, parsed.dirty, parsed.corrupt, parsed.external_data))


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ((0, ">I", 0), "does not begin"),
        ((4, ">I", 1), "version 1"),
        ((4, ">I", 4), "version 4"),
        ((8, ">Q", 1 << 40), "outside of the header"),
        ((16, ">I", 1024), "name is too long"),
        ((20, ">I", 8), "clusters"),
        ((20, ">I", 2**32 - 1), "clusters"),
        ((24, ">Q", 2**64 - 1), "virtual size"),
        ((24, ">Q", 2**62), "L1 table is too small"),
        ((32, ">I", 3), "encryption"),
        ((36, ">I", 2**31), "L1 table of"),
        ((36, ">I", 1), "L1 table is too small"),
        ((72, ">Q", 1 << 63), "newer QEMU"),
        ((96, ">I", 7), "reference counts"),
        ((100, ">I", 72), "header's length"),
        ((100, ">I", 2**32 - 1), "header's length"),
        ((116, ">I", 2**32 - 1), "extension is too long"),
    ],
)
def test_hostile_fields(header, field, reason):
    """A header that lies is refused with the reason."""
    with pytest.raises(ValueError, match=reason):
        parse_header(make_header(header, field=field))


def test_marks(header):
    """Dirty, corrupt and external-data bits are seen."""
    parsed = parse_header(make_header(header, features=(72, ">Q", 7)))
    assert parsed.dirty
    assert parsed.corrupt
    assert parsed.external_data


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data):
    """No bytes make the parser fail in another way than by ValueError."""
    for head in (data, MAGIC + data, MAGIC + b"\0\0\0\3" + data):
        with suppress(ValueError):
            parse_header(head)


changes = st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=8)), max_size=6)


@given(changes=changes, length=st.integers(0, 1 << 16))
def test_corrupted_headers(header, changes, length):
    """A header corrupted or cut anywhere is parsed or refused by ValueError."""
    data = bytearray(header)
    for at, new in changes:
        data[at : at + len(new)] = new
    for head in (bytes(data), bytes(data[:length])):
        with suppress(ValueError):
            parse_header(head)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(4, 300), new=st.binary(min_size=1, max_size=4))
def test_corrupted_like_qemu(tmp_path, qemu_img, query, at, new):
    """Where QEMU accepts a corrupted header, we read the same from it or refuse it."""
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "base.raw", path, "10G")
    with path.open("r+b") as file:
        file.seek(at)
        file.write(new)
    try:
        ours = find_image(path)
    except StorageError:
        return
    try:
        theirs = query(path)
    except AssertionError:
        return
    names = (ours.backing_file or "") + (ours.backing_format or "") + (ours.data_file or "")
    if names.isascii():  # JSON cannot hold other bytes
        assert_same(ours, theirs)


def assert_same(ours, theirs):
    """Compare what we read with what `qemu-img info` says."""
    assert ours.virtual_size == theirs["virtual-size"]
    assert ours.allocation == theirs["actual-size"]
    assert ours.backing_file == theirs.get("backing-filename")
    assert ours.backing_format == theirs.get("backing-filename-format")
    assert ours.encrypted == theirs.get("encrypted", False)
    assert ours.dirty == theirs["dirty-flag"]
    specific = theirs["format-specific"]["data"]
    assert ours.data_file == specific.get("data-file")
    assert ours.corrupt == specific.get("corrupt", False)


OPTIONS = [
    f"compat={compat},cluster_size={cluster},preallocation={preallocation}"
    for compat, cluster, preallocation in product(
        ("0.10", "1.1"), (512, 65536, 2 * MIB), ("off", "metadata")
    )
] + [
    "lazy_refcounts=on",
    "refcount_bits=1",
    "refcount_bits=64",
    "compression_type=zstd",
    "extended_l2=on",
    "extended_l2=on,cluster_size=2M",
    "data_file=ext.dat",
    "data_file=ext.dat,data_file_raw=on",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_real_images(tmp_path, monkeypatch, qemu_img, query, options):
    """Of every kind of image that qemu-img makes, we read what it reads."""
    monkeypatch.chdir(tmp_path)
    for size in (512, MIB + 512, 2 * MIB):
        path = tmp_path / "a.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, size)
        assert_same(find_image(path), query(path))


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("name", ["base.raw", "x/../base.raw", "ä b,c", "json:{}", "nbd://h/e"])
def test_real_overlays(tmp_path, qemu_img, query, compat, name):
    """Backing names and formats are read as qemu-img reads them, in both versions."""
    path = tmp_path / "a.qcow2"
    words = ["-o", f"compat={compat}", "-u", "-b", name, "-F", "raw", path, "2T"]
    qemu_img("create", "-q", "-f", "qcow2", *words)
    assert_same(find_image(path), query(path))


def test_encrypted_image(tmp_path, qemu_img, query):
    """An encrypted image is seen to be one, without its secret."""
    path = tmp_path / "a.qcow2"
    secret = ["--object", "secret,id=s,data=x"]
    options = "encrypt.format=aes,encrypt.key-secret=s"  # LUKS takes seconds to make
    qemu_img("create", "-q", *secret, "-f", "qcow2", "-o", options, path, "1M")
    image = find_image(path, ImageFormat.QCOW2)
    assert image.encrypted
    assert_same(image, query(path))
