"""What programs print and images claim is read as it is, or refused; nothing else comes out."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_storage import qemu_img
from qorch_storage.foreign import Foreign, parse_foreign
from qorch_storage.image import peek_image
from qorch_storage.lvm.report import parse_report
from qorch_storage.plan import ImageFormat, VolumePlan
from qorch_storage.qemu_img import Source, Target, make_convert_words, make_create_words

MIB = 1 << 20
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
PARSERS = [qemu_img.parse_check, qemu_img.parse_info, qemu_img.parse_measure, parse_report]

LV = {
    "lv_name": "web",
    "lv_size": "4194304",
    "lv_tags": "qorch:0123abcd,other",
    "pool_lv": "",
    "origin": "",
    "data_percent": "",
    "metadata_percent": "",
    "lv_layout": "linear",
    "lv_role": "public",
    "lv_active": "active",
    "lv_device_open": "open",
}
POOL = LV | {
    "lv_name": "tp",
    "data_percent": "25.00",
    "metadata_percent": "10.94",
    "lv_layout": "thin,pool",
    "lv_role": "private",
}
VG = {"vg_name": "vg", "vg_size": "1000", "vg_free": "500", "vg_extent_size": "4"}


def make_report(*lvs, **vg):
    """A report of one volume group."""
    segments = [{"lv_name": lv["lv_name"], "zero": "zero"} for lv in lvs]
    return json.dumps({"report": [{"vg": [VG | vg], "lv": list(lvs), "seg": segments}]})


@given(st.sampled_from(PARSERS), st.text() | JSON.map(json.dumps))
def test_anything(parse, text):
    """Whatever a program prints is read, or a ValueError."""
    with suppress(ValueError):
        parse(text)


@given(st.sampled_from(["vg", "lv"]), st.sampled_from(sorted({*VG, *LV})), JSON)
def test_fields_of_lvm_that_are_something_else(part, key, value):
    """A field of LVM's report that is not what it should be is a ValueError at the worst."""
    data = json.loads(make_report(LV))
    data["report"][0][part][0][key] = value
    with suppress(ValueError):
        parse_report(json.dumps(data))


def test_report():
    """Sizes, tags, percentages and states come out of a report as they are."""
    (group,) = parse_report(make_report(LV, POOL)).values()
    assert (group.name, group.size, group.free, group.extent_size) == ("vg", 1000, 500, 4)
    web, pool = group.volumes["web"], group.volumes["tp"]
    assert (web.size, web.allocation) == (4194304, 4194304)
    assert web.tags == {"qorch:0123abcd", "other"}
    assert (web.is_volume, web.active, web.open, web.pool) == (True, True, True, None)
    assert (pool.is_volume, pool.allocation, pool.metadata_percent) == (False, 1048576, 10.94)
    assert pool.zeroes


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"report": 1}', '{"report": [1]}'])
def test_no_report(text):
    """What is no report is a ValueError."""
    with pytest.raises(ValueError, match=r"report|Expecting"):
        parse_report(text)


def test_empty_report():
    """A report of a group that is not there is empty."""
    assert parse_report('{"report": []}') == {}


@given(st.sampled_from(list(ImageFormat)), st.binary(max_size=600))
def test_any_header(form, data):
    """Any bytes are read as some header or none."""
    magic = {ImageFormat.VMDK: b"KDMV", ImageFormat.QED: b"QED\0"}.get(form, b"")
    for head in (data, magic + data):
        found = parse_foreign(head, form)
        assert found is None or isinstance(found, Foreign)


@pytest.mark.parametrize("form", [ImageFormat.VMDK, ImageFormat.VDI, ImageFormat.QED])
@pytest.mark.parametrize("size", [MIB, 100 * MIB, 5 << 30])
def test_foreign_headers(qemu_img, query, tmp_path, form, size):
    """Headers of others are read as QEMU reads them."""
    path = tmp_path / f"a.{form}"
    qemu_img("create", "-q", "-f", form, path, size)
    assert peek_image(path, form).virtual_size == query(path, form)["virtual-size"] == size


@pytest.mark.parametrize("form", [ImageFormat.VMDK, ImageFormat.QED])
def test_foreign_overlays(qemu_img, tmp_path, form):
    """The backing file of an overlay in another format is known, too."""
    base, over = tmp_path / f"base.{form}", tmp_path / f"over.{form}"
    qemu_img("create", "-q", "-f", form, base, MIB)
    qemu_img("create", "-q", "-f", form, "-b", base, "-F", form, over)
    image = peek_image(over, form)
    assert image.real_backing == base
    assert image.virtual_size == MIB


def test_words_never_have_a_passphrase():
    """Only the file that a passphrase is in is told, and commas in its name are doubled."""
    key = Path("/k,1")
    plan = VolumePlan(pool="p", name="v", format=ImageFormat.QCOW2, size=MIB, passphrase_file=key)
    words = make_create_words(Path("/v"), plan, MIB)
    assert "secret,id=key0,file=/k,,1" in words
    assert "encrypt.format=luks,encrypt.key-secret=key0" in words
    source = Source(path=Path("/a,b"), format=ImageFormat.LUKS, passphrase_file=key)
    words = make_convert_words(source, Target(path=Path("/v")), plan)
    assert "driver=luks,file.filename=/a,,b,key-secret=key0" in words
    assert words[-1] == "driver=qcow2,file.filename=/v,encrypt.key-secret=key1"
