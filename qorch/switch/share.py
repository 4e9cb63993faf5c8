"""Directories of the host that a guest mounts."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import option_word, properties
from qorch.spec import SecurityModel
from qorch.switch.device import DeviceVirtio


@attrs.frozen(kw_only=True)
class FsdevLocal:
    """`-fsdev local`: a directory, served by QEMU itself. It takes no JSON."""

    id: str
    path: Path
    security_model: SecurityModel
    fmode: str | None = None
    dmode: str | None = None
    multidevs: str | None = None
    writeout: str | None = None
    readonly: bool | None = None

    def args(self) -> tuple[str, ...]:
        return "-fsdev", option_word("local", properties(self))


@attrs.frozen(kw_only=True)
class DeviceVirtio9p(DeviceVirtio):
    """`-device virtio-9p-*`: a share on an `-fsdev`."""

    fsdev: str
    mount_tag: str

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-9p"


@attrs.frozen(kw_only=True)
class DeviceVhostUserFs(DeviceVirtio):
    """`-device vhost-user-fs-*`: a share that a virtiofsd behind a chardev serves."""

    chardev: str
    tag: str
    queue_size: int | None = None
    bootindex: int | None = None

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "vhost-user-fs"
