"""Shared directories: the back end that reads the host's files, and the device."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.transport import find_transport
from qorch.handles import Handles
from qorch.plan import MachinePlan, SharePlan
from qorch.spec import SecurityModel, ShareType
from qorch.switch import Switch
from qorch.switch.chardev import ChardevSocket
from qorch.switch.device import VirtioCommon
from qorch.switch.share import DeviceVhostUserFs, DeviceVirtio9p, FsdevLocal


def make_share(plan: MachinePlan, share: SharePlan, handles: Handles) -> Iterator[Switch]:
    """One share."""
    if share.spec.type is ShareType.VIRTIOFS:
        yield from _make_virtiofs(plan, share, handles)
    else:
        yield from _make_9p(plan, share)


def _make_virtiofs(plan: MachinePlan, share: SharePlan, handles: Handles) -> Iterator[Switch]:
    """Its program is reached over an inherited connection, somebody else's by its path."""
    spec = share.spec
    if spec.socket is None:
        yield ChardevSocket(id=share.id, fd=handles[share.id], server=False, wait=None)
    else:
        yield ChardevSocket(id=share.id, path=spec.socket, server=False, wait=None)
    yield DeviceVhostUserFs(
        transport=find_transport(plan),
        virtio=VirtioCommon.from_spec(spec.virtio, find_transport(plan)),
        id=f"{share.id}-dev",
        chardev=share.id,
        tag=spec.tag,
        queue_size=spec.queue_size,
        bootindex=spec.bootindex,
        place=share.place,
    )


def _make_9p(plan: MachinePlan, share: SharePlan) -> Iterator[Switch]:
    spec = share.spec
    assert spec.path is not None  # noqa: S101  checked with the spec
    yield FsdevLocal(
        id=share.id,
        path=spec.path,
        security_model=spec.security_model or SecurityModel.MAPPED,
        fmode=spec.fmode,
        dmode=spec.dmode,
        multidevs=spec.multidevs,
        writeout="immediate" if spec.writeout else None,
        readonly=spec.read_only or None,
    )
    yield DeviceVirtio9p(
        transport=find_transport(plan),
        virtio=VirtioCommon.from_spec(spec.virtio, find_transport(plan)),
        id=f"{share.id}-dev",
        fsdev=share.id,
        mount_tag=spec.tag,
        place=share.place,
    )
