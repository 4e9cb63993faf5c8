"""Shared directories: the back end that reads the host's files, and the device."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.transport import find_transport
from qorch.plan import MachinePlan, SharePlan
from qorch.spec import SecurityModel
from qorch.switch import Switch
from qorch.switch.share import DeviceVirtio9p, FsdevLocal


def make_share(plan: MachinePlan, share: SharePlan) -> Iterator[Switch]:
    """One share."""
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
        id=f"{share.id}-dev",
        fsdev=share.id,
        mount_tag=spec.tag,
        place=share.place,
    )
