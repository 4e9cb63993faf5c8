"""Controllers and bridges: what other devices are plugged into."""

from __future__ import annotations

import attrs

from qorch.place import Place
from qorch.spec import ControllerSpec


@attrs.frozen(kw_only=True)
class ControllerPlan:
    """A controller, asked for or implied; `driver` is QEMU's name of it on PCI."""

    id: str
    driver: str
    spec: ControllerSpec
    place: Place = Place()
    virtio: bool = False
    chassis: int | None = None
