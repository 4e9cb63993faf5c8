"""Where devices sit on PCI Express.

A device behind a root port of its own can be plugged and unplugged while the guest runs; one on
`pcie.0` cannot (docs/pcie.txt of QEMU). Ports are functions of multifunction devices, eight in a
slot, and slot 1 is left for a VGA card, where guests look for the boot display.
"""

from __future__ import annotations

import attrs

_FIRST_SLOT = 2
_LAST_SLOT = 0x1B  # 0x1c to 0x1f are the chipset's own (ICH9)
_FUNCTIONS = 8
MAX_PORTS = (_LAST_SLOT - _FIRST_SLOT + 1) * _FUNCTIONS
SPARE_PORTS = 4


@attrs.frozen(kw_only=True)
class RootPort:
    """One `pcie-root-port`; its id is the name of the bus behind it."""

    id: str
    slot: int
    function: int
    chassis: int

    @property
    def multifunction(self) -> bool:
        """Function 0 says for the whole slot that there are more."""
        return self.function == 0


def make_root_ports(count: int) -> tuple[RootPort, ...]:
    """The first `count` root ports, always at the same places. ValueError if there is no room."""
    if count > MAX_PORTS:
        raise ValueError(f"{count} devices: there is room for {MAX_PORTS} on q35")
    return tuple(
        RootPort(
            id=f"rp{index}",
            slot=_FIRST_SLOT + index // _FUNCTIONS,
            function=index % _FUNCTIONS,
            chassis=index + 1,
        )
        for index in range(count)
    )
