"""Directories of the host that a guest mounts."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import Properties, json_word, option_word, properties
from qorch.spec import SecurityModel
from qorch.switch.device import Transport, virtio_properties


@attrs.frozen(kw_only=True)
class FsdevLocal:
    """`-fsdev local`: a directory, served by QEMU itself. It takes no JSON."""

    id: str
    path: Path
    security_model: SecurityModel = attrs.field(metadata={"qemu": "security_model"})
    fmode: str | None = None
    dmode: str | None = None
    multidevs: str | None = None
    writeout: str | None = None
    readonly: bool | None = None

    def args(self) -> tuple[str, ...]:
        return "-fsdev", option_word("local", properties(self))


@attrs.frozen(kw_only=True)
class DeviceVirtio9p:
    """`-device virtio-9p-*`: a share on an `-fsdev`."""

    transport: Transport
    id: str
    fsdev: str
    mount_tag: str = attrs.field(metadata={"qemu": "mount_tag"})
    bus: str | None = None

    def properties(self) -> Properties:
        """As `device_add` takes them."""
        return virtio_properties("virtio-9p", self)

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())
