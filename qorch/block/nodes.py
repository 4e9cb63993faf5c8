"""Block nodes to be added to a running QEMU: the format node and, below it, its protocol node."""

from __future__ import annotations

from qorch.option import Properties
from qorch_storage.plan import Backing, ImageFormat


def make_node(
    name: str,
    image: Backing,
    *,
    device: bool = False,
    read_only: bool = False,
    backing: str | None = None,
    direct: bool = False,
    size: int | None = None,
) -> Properties:
    """What `blockdev-add` takes for an image; `device` tells that it is a block device.

    Nothing is taken from the image's header: what lies below it is `backing`, a node, or nothing.
    `size` is how much of a raw image is used.
    """
    file: Properties = {
        "driver": "host_device" if device else "file",
        "node-name": f"{name}-file",
        "filename": str(image.path),
        "discard": "unmap",
    }
    node: Properties = {
        "driver": image.format.value,
        "node-name": name,
        "file": file,
        "discard": "unmap",
    }
    if direct:  # past the host's page cache, as the disk's other images
        file["cache"] = node["cache"] = {"direct": True}
    if read_only:
        node["read-only"] = True
    if size is not None:
        node["size"] = size
    if image.format is ImageFormat.QCOW2:
        node["backing"] = backing
    return node


def keep_file(node: Properties) -> Properties:
    """What `blockdev-reopen` takes for a node whose protocol node stays as it is."""
    return {**node, "file": f"{node['node-name']}-file"}
