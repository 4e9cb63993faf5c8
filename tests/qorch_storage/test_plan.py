"""Plans refuse what no pool could hold, before anything is touched."""

from __future__ import annotations

from pathlib import Path

import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_storage.errors import StorageError
from qorch_storage.plan import (
    Backing,
    ImageFormat,
    PoolPlan,
    VolumePlan,
    check_volume_name,
    find_format,
    make_file_name,
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.qcow2", ImageFormat.QCOW2),
        ("a.QCOW2", ImageFormat.QCOW2),
        ("/x/y.raw", ImageFormat.RAW),
        ("debian.iso", ImageFormat.RAW),
        (Path("a.vmdk"), ImageFormat.VMDK),
        ("a.vdi", ImageFormat.VDI),
        ("a.qed", ImageFormat.QED),
        ("a.img", None),
        ("a", None),
        ("qcow2", None),
        ("a.qcow2.bak", None),
        ("", None),
    ],
)
def test_format_by_suffix(name, found):
    """A suffix that means one format names it; one that means several names none."""
    assert find_format(name) is found


@pytest.mark.parametrize("name", ["a", "web-0", "debian-12.qcow2", "a b,c:d=e", "ä" * 100, "0"])
def test_volume_names_accepted(name):
    """What a file can be called and a person can read is a volume name."""
    check_volume_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".x",
        "-f",
        "a/b",
        "/etc/passwd",
        "a\0",
        "a\nb",
        "\x1b[0m",
        "\udcff",
        "ä" * 101,
    ],
)
def test_volume_names_refused(name):
    """A name that could leave the pool, hide, pass for an option or garble a terminal is none."""
    with pytest.raises(StorageError, match="is not a volume name") as caught:
        VolumePlan(pool="p", name=name, format=ImageFormat.RAW, size=512)
    assert caught.value.hint


@given(st.text())
def test_volume_names_stay_in_the_pool(name):
    """Every name is refused or lies directly in the pool's directory, and is not hidden."""
    try:
        check_volume_name(name)
    except StorageError:
        return
    path = PoolPlan(name="p", path=Path("/pool")).volume_path(name, ImageFormat.QCOW2)
    assert path.parent == Path("/pool")
    assert not path.name.startswith(".")
    assert len(path.name.encode()) <= 255


def test_file_names():
    """A volume's file name ends in its format exactly once."""
    assert make_file_name("web", ImageFormat.QCOW2) == "web.qcow2"
    assert make_file_name("web.qcow2", ImageFormat.QCOW2) == "web.qcow2"
    assert make_file_name("web.raw", ImageFormat.QCOW2) == "web.raw.qcow2"
    assert make_file_name("cd.iso", ImageFormat.RAW) == "cd.iso"


@pytest.mark.parametrize("size", [0, -512, 513, 2**63, 2**70])
def test_sizes_refused(size):
    """A size that no disk has is refused with a hint."""
    with pytest.raises(StorageError, match=r"size|more than a disk") as caught:
        VolumePlan(pool="p", name="v", format=ImageFormat.RAW, size=size)
    assert caught.value.hint


def test_size_or_backing():
    """A volume has a size of its own or one from its backing file."""
    with pytest.raises(StorageError, match="no size"):
        VolumePlan(pool="p", name="v", format=ImageFormat.QCOW2)


def test_only_qcow2_builds_on_others():
    """A raw volume over a backing file is refused."""
    backing = Backing(path=Path("/b"), format=ImageFormat.RAW)
    with pytest.raises(StorageError, match="cannot have one"):
        VolumePlan(pool="p", name="v", format=ImageFormat.RAW, backing=backing)


def test_plans_can_be_stored():
    """A plan goes through JSON-like data and back unchanged."""
    backing = Backing(path=Path("/b.raw"), format=ImageFormat.RAW)
    plan = VolumePlan(pool="p", name="v", format=ImageFormat.QCOW2, size=512, backing=backing)
    converter = cattrs.Converter()
    converter.register_unstructure_hook(Path, str)
    assert converter.structure(converter.unstructure(plan), VolumePlan) == plan
