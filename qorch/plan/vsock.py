"""CIDs of vsock: one per machine on a host, kept once given."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from uuid import UUID

from qorch.errors import Problem
from qorch.plan.place import Placement
from qorch.plan.services import VsockPlan
from qorch.spec import MachineSpec

_FIRST_CID = 3  # 0 to 2 are the hypervisor, local and the host (vsock(7))
_LAST_CID = 0xFFFFFFFE


def plan_vsock(
    path: str,
    uuid: UUID,
    spec: MachineSpec,
    placement: Placement,
    taken: Collection[int],
    problems: list[Problem],
) -> VsockPlan | None:
    """The vsock device with the CID asked for, or one from a hash of the machine."""
    vsock = spec.vsock
    if vsock is None:
        return None
    if vsock.cid is not None and not _FIRST_CID <= vsock.cid <= _LAST_CID:
        hint = f"a guest's are {_FIRST_CID} to {_LAST_CID}"
        problems.append(Problem(f"{path}.vsock.cid", f"{vsock.cid} is no guest's CID", hint))
    elif vsock.cid in taken:
        problems.append(
            Problem(
                f"{path}.vsock.cid",
                f"{vsock.cid} belongs to another machine",
                "leave cid out: one is chosen",
            )
        )
    cid = vsock.cid if vsock.cid is not None else _choose(uuid, taken)
    return VsockPlan(id="vsock0", spec=vsock, cid=cid, place=placement.get("vsock0"))


def _choose(uuid: UUID, taken: Collection[int]) -> int:
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{uuid}/vsock/{attempt}".encode()).digest()
        cid = _FIRST_CID + int.from_bytes(digest[:4], "big") % (1 << 31)
        if cid not in taken:
            return cid
        attempt += 1
