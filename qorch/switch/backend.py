"""Back ends: what a device is connected to on the host."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import Properties, json_word, key_values
from qorch_storage.plan import ImageFormat


@attrs.frozen(kw_only=True)
class AddFd:
    """`-add-fd`: makes an inherited file descriptor known as `/dev/fdset/SET`."""

    fd: int
    set: int

    def args(self) -> tuple[str, ...]:
        return "-add-fd", key_values(fd=self.fd, set=self.set)


@attrs.frozen(kw_only=True)
class Mon:
    """`-mon`: a monitor on a chardev; mode control is QMP."""

    chardev: str
    mode: str = "control"

    def args(self) -> tuple[str, ...]:
        return "-mon", key_values(**attrs.asdict(self))


@attrs.frozen(kw_only=True)
class Blockdev:
    """`-blockdev`: one image as a node over a file node; `backing` names the node below."""

    node_name: str
    driver: ImageFormat
    filename: Path
    read_only: bool = False
    backing: str | None = None
    discard: str | None = None

    def properties(self) -> Properties:
        """As `blockdev-add` takes them. `backing: null` keeps QEMU from following the header."""
        file = {"driver": "file", "filename": str(self.filename)}
        node: Properties = {"driver": self.driver.value, "node-name": self.node_name, "file": file}
        if self.read_only:
            node["read-only"] = True
        elif self.discard is not None:
            node["discard"] = self.discard
            node["file"] = {**file, "discard": self.discard}
        if self.driver is ImageFormat.QCOW2:
            node["backing"] = self.backing
        return node

    def args(self) -> tuple[str, ...]:
        return "-blockdev", json_word(self.properties())


@attrs.frozen(kw_only=True)
class NetdevTap:
    """`-netdev tap` on an inherited tap."""

    id: str
    fd: int

    def properties(self) -> Properties:
        """As `netdev_add` takes them; the fd's name is a string there (qapi/net.json)."""
        return {"type": "tap", "id": self.id, "fd": str(self.fd)}

    def args(self) -> tuple[str, ...]:
        return "-netdev", json_word(self.properties())
