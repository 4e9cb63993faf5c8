"""The TPM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.handles import Handles
from qorch.plan import MachinePlan
from qorch.spec import TpmModel
from qorch.switch import Switch
from qorch.switch.chardev import ChardevSocket
from qorch.switch.tpm import DeviceTpm, TpmdevEmulator, TpmdevPassthrough

_ID = "tpm0"


def make_tpm(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """The emulated one is reached over the connection that its process has inherited."""
    if plan.tpm is None:
        return
    spec = plan.tpm.spec
    if spec.device is None:
        fd = None if spec.socket else handles["tpm"]
        yield ChardevSocket(id="tpm", fd=fd, path=spec.socket, server=False, wait=None)
        yield TpmdevEmulator(id=_ID, chardev="tpm")
    else:
        yield TpmdevPassthrough(id=_ID, path=spec.device, cancel_path=Path("/dev/null"))
    yield DeviceTpm(driver=spec.model or TpmModel.TIS, id=f"{_ID}-dev", tpmdev=_ID)
