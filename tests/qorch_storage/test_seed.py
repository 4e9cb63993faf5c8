"""Seed images hold the files they were given, byte for byte, for any reader."""

from __future__ import annotations

import io
import os
import subprocess
import time
from contextlib import suppress

import pycdlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qorch_storage.errors import StorageError
from qorch_storage.seed import MAX_NAME, make_seed, make_seed_image

CLASSIC = {
    "user-data": b"#cloud-config\nhostname: web\n",
    "meta-data": b"instance-id: web-1\n",
    "network-config": b"version: 2\n",
    "vendor-data": b"",
}
OTHERS = {"a.b.c": b"1", "Upper_lower 9": b"2" * 5000, "x" * MAX_NAME: b"3", "ü" * 32: b"4"}


def read_back(image, **kind):
    """Read a seed with pycdlib: name → content, by `rr_path` or `joliet_path`."""
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    (way,) = kind
    contents = {}
    for child in iso.list_children(**{way: "/"}):
        if child.is_dot() or child.is_dotdot():
            continue
        raw = child.rock_ridge.name() if way == "rr_path" else child.file_identifier()
        name = raw.decode("utf-8" if way == "rr_path" else "utf-16_be")
        out = io.BytesIO()
        iso.get_file_from_iso_fp(out, **{way: f"/{name}"})
        contents[name] = out.getvalue()
    assert iso.pvd.volume_identifier.rstrip() == b"cidata"
    assert iso.joliet_vd.volume_identifier.decode("utf-16_be").rstrip() == "cidata"
    iso.close()
    return contents


@pytest.mark.parametrize("files", [{}, CLASSIC, OTHERS, CLASSIC | OTHERS])
@pytest.mark.parametrize("way", ["rr_path", "joliet_path"])
def test_read_back(files, way):
    """Names and contents come back by Rock Ridge and by Joliet, whatever the names."""
    assert read_back(make_seed_image(files), **{way: "/"}) == files


def test_many_files():
    """A directory of several sectors holds all its files, and still no date."""
    files = {f"{index:03}" + "n" * 60: b"%d" % index for index in range(60)}
    image = make_seed_image(files)
    assert read_back(image, rr_path="/") == files


def test_label(tmp_path):
    """Whoever looks for the disk by its label, as cloud-init does, finds it."""
    seed = tmp_path / "seed.iso"
    make_seed(seed, CLASSIC)
    blkid = ["blkid", "-p", "-o", "value", "-s", "LABEL", "-s", "TYPE", seed]
    shown = subprocess.run(blkid, capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["cidata", "iso9660"]


def test_other_reader(tmp_path):
    """A reader that is not pycdlib finds the same files."""
    files = CLASSIC | OTHERS
    make_seed(tmp_path / "seed.iso", files)
    (tmp_path / "out").mkdir()
    words = ["bsdtar", "-C", tmp_path / "out", "-xf", tmp_path / "seed.iso"]
    subprocess.run(words, check=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_same_bytes_at_any_time_and_place(monkeypatch):
    """The same files in any order give the same bytes, whatever clock and time zone say."""
    files = CLASSIC | OTHERS | {f"f{index}": b"" for index in range(40)}
    first = make_seed_image(files)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    second = make_seed_image(dict(reversed(files.items())))
    monkeypatch.undo()
    time.tzset()
    assert first == second


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(max_size=80), st.binary(max_size=3000), max_size=8))
def test_any_files(files):
    """Any names and contents are held or refused by name."""
    with suppress(StorageError):
        assert read_back(make_seed_image(files), rr_path="/") == files


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\0", "a\n", "x" * (MAX_NAME + 1), "日" * 22]
)
def test_bad_names(tmp_path, name):
    """A name that the image cannot hold is refused, and nothing is written."""
    with pytest.raises(StorageError, match=r"is not a file name|is longer than"):
        make_seed(tmp_path / "seed.iso", {name: b""})
    assert list(tmp_path.iterdir()) == []


def test_written_only_when_it_differs(tmp_path):
    """The same files leave the seed alone; other ones replace it as a whole."""
    path = tmp_path / "seed.iso"
    assert make_seed(path, CLASSIC)
    first = path.stat()
    assert first.st_mode & 0o777 == 0o600
    assert not make_seed(path, dict(CLASSIC))
    assert path.stat().st_mtime_ns == first.st_mtime_ns
    with path.open("rb") as guest:
        assert make_seed(path, CLASSIC | {"user-data": b"new"})
        assert guest.read() == make_seed_image(CLASSIC)  # who has it open keeps the old one
    assert path.stat().st_ino != first.st_ino
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_seed_is_replaced(tmp_path):
    """A seed that is not byte for byte what it should be is written anew."""
    path = tmp_path / "seed.iso"
    make_seed(path, CLASSIC)
    path.write_bytes(path.read_bytes()[:-1])
    assert make_seed(path, CLASSIC)
    assert path.read_bytes() == make_seed_image(CLASSIC)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "failing", ["open temporary file", "write seed", "sync file", "publish file"]
)
def test_failure_at_each_step(tmp_path, failing, there):
    """A failure at any step leaves the old seed, or none, and no temporary file."""
    path = tmp_path / "seed.iso"
    if there:
        path.write_bytes(b"old")

    def fail(step):
        if step == failing:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"cannot write seed .*: No space left") as caught:
        make_seed(path, CLASSIC, report=fail)
    assert caught.value.hint
    assert [item.read_bytes() for item in tmp_path.iterdir()] == ([b"old"] if there else [])
    assert make_seed(path, CLASSIC)


def test_bad_places(tmp_path):
    """A missing directory, or one where the seed should be, is one clear error."""
    for path, reason in (
        (tmp_path / "gone" / "seed.iso", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(StorageError, match=reason):
            make_seed(path, CLASSIC)
    assert list(tmp_path.iterdir()) == []
