"""The block graph as QEMU tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qorch.block.commands import set_group_limits, set_limits
from qorch.block.graph import Graph, find_disk_id, find_path
from qorch.errors import MachineError

A, B = "/pool/a.qcow2", "/pool/b.qcow2"
ODD = "json:" + json.dumps(
    {"backing": {}, "driver": "qcow2", "file": {"driver": "file", "filename": B}}
)


def make_image(filename, backing=None):
    """An ImageInfo."""
    image = {"filename": filename, "virtual-size": 1 << 20}
    return image | ({"backing-image": backing} if backing else {})


def make_node(name, filename, driver="qcow2", **more):
    """An entry of query-named-block-nodes."""
    return {"node-name": name, "drv": driver, "ro": False, "image": make_image(filename), **more}


def test_a_disk_is_known_by_its_device_and_its_images_by_their_paths():
    """Explicit chains have odd names, jobs put filters on top, and all lead to the same paths."""
    image = make_image(ODD, make_image(ODD, make_image(A)))
    block = {"qdev": "/machine/peripheral/disk0-dev/virtio-backend", "inserted": {"image": image}}
    bitmap = {"name": "x", "count": 4096, "persistent": True, "recording": True}
    nodes = [
        make_node("disk0-1", ODD, **{"dirty-bitmaps": [bitmap, {"count": 0}]}),
        make_node("disk0-1-file", B, "file"),
        make_node("disk0", A),
    ]
    graph = Graph.from_qmp([block, {"qdev": "floppy"}], nodes)
    assert graph.disks["disk0"].chain == (Path(B), Path(A))
    assert graph.top("disk0") == Path(B)
    assert graph.find("disk0").qdev == block["qdev"]  # what commands on the back end take
    with pytest.raises(MachineError, match="disk1"):
        graph.find("disk1")
    node = graph.top_node("disk0")
    assert node is not None
    assert (node.name, [item.name for item in node.bitmaps]) == ("disk0-1", ["x"])
    assert graph.free_name("disk0") == "disk0-2"
    assert graph.find_unused("disk0") == []
    spare = [*nodes, make_node("disk0-base1", "/c.qcow2"), make_node("disk01", "/d.qcow2")]
    assert Graph.from_qmp([block], spare).find_unused("disk0") == [Path("/c.qcow2")]
    assert graph.top("disk1") is None


def test_names_that_lead_nowhere():
    """What is no file has no path; of what is not ours only the variables' flash is a disk."""
    assert find_path("nbd://host/x") is None
    assert find_path('json:{"driver": "nbd"}') is None
    assert find_disk_id("/machine/system.flash0") is None
    assert find_disk_id("/machine/system.flash1") == "firmware-vars"


def test_limits_have_two_names():
    """What is not named is unlimited, in QEMU's new words and in its old ones."""
    limits = {"iops_total": 5, "bps_read_max": 7, "bps_write_max_length": 2, "iops_size": 9}
    old = set_limits("disk0-dev", limits).arguments
    assert (old["iops"], old["bps_rd_max"], old["bps_wr_max_length"]) == (5, 7, 2)
    assert (old["iops_size"], old["bps"], old["iops_wr"]) == (9, 0, 0)
    new = set_group_limits("disk0-limits", limits).arguments["value"]
    assert (new["iops-total"], new["bps-read-max"], new["bps-total"]) == (5, 7, 0)
