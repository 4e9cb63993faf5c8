"""Network cards."""

from __future__ import annotations

import attrs

from qorch.switch.device import DeviceModel, DeviceVirtio


@attrs.frozen(kw_only=True)
class NicCommon:
    """What every card has; an empty `romfile` leaves PXE out."""

    netdev: str
    mac: str
    bootindex: int | None = None
    rombar: int | None = None
    romfile: str | None = None


@attrs.frozen(kw_only=True)
class DeviceVirtioNet(DeviceVirtio):
    """`-device virtio-net-*`; `offloads` are properties such as `guest_tso4`."""

    nic: NicCommon
    mq: bool | None = None
    vectors: int | None = None
    host_mtu: int | None = None
    rx_queue_size: int | None = None
    tx_queue_size: int | None = None
    tx: str | None = None
    failover: bool | None = None
    offloads: dict[str, bool] = attrs.field(factory=dict)

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return "virtio-net"


@attrs.frozen(kw_only=True)
class DeviceNic(DeviceModel):
    """`-device e1000`, `rtl8139` and the others."""

    nic: NicCommon
