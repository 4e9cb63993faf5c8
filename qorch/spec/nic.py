"""What a vm.toml says about network cards."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import attrs

from qorch.spec.common import AddressSpec, VhostUserSpec, VirtioSpec
from qorch.spec.network import DEFAULT_NETWORK
from qorch.units import Mac, Name, Rate, Size


class NicModel(enum.Enum):
    """QEMU's network cards; the bus's own form of it is chosen by the machine type."""

    VIRTIO_NET = "virtio-net"
    E1000 = "e1000"
    E1000_82544GC = "e1000-82544gc"
    E1000_82545EM = "e1000-82545em"
    E1000E = "e1000e"
    RTL8139 = "rtl8139"
    VMXNET3 = "vmxnet3"
    IGB = "igb"
    NE2K_PCI = "ne2k_pci"
    PCNET = "pcnet"
    I82550 = "i82550"
    I82551 = "i82551"
    I82557A = "i82557a"
    I82557B = "i82557b"
    I82557C = "i82557c"
    I82558A = "i82558a"
    I82558B = "i82558b"
    I82559A = "i82559a"
    I82559B = "i82559b"
    I82559C = "i82559c"
    I82559ER = "i82559er"
    I82562 = "i82562"
    I82801 = "i82801"
    TULIP = "tulip"
    USB_NET = "usb-net"


class Protocol(enum.Enum):
    """The protocol of a forwarded port."""

    TCP = "tcp"
    UDP = "udp"


@attrs.frozen(kw_only=True)
class UserForwardSpec:
    """`[[vm.NAME.nic.user.forward]]`: a port of the host that leads to the guest."""

    proto: Protocol = Protocol.TCP
    host: IPv4Address | None = None
    host_port: int
    guest: IPv4Address | None = None
    port: int


@attrs.frozen(kw_only=True)
class UserNetSpec:
    """`[vm.NAME.nic.user]`: QEMU's own network, without privileges (`-netdev user`), or passt.

    passt gives the guest the host's own addresses, unless `net` is given. It goes out by
    `interface`.
    """

    net: IPv4Network | None = None
    host: IPv4Address | None = None
    dhcp_start: IPv4Address | None = None
    dns: IPv4Address | None = None
    net6: IPv6Network | None = None
    restrict: bool = False
    forwards: tuple[UserForwardSpec, ...] = attrs.field(default=(), metadata={"toml": "forward"})
    passt: bool = False
    interface: str | None = None


class SocketNetType(enum.Enum):
    """How two QEMUs are wired: one listens, one connects, or both hear a multicast group."""

    LISTEN = "listen"
    CONNECT = "connect"
    MCAST = "mcast"
    UDP = "udp"


@attrs.frozen(kw_only=True)
class SocketNetSpec:
    """`[vm.NAME.nic.socket]`: a wire to another QEMU. `path` is a Unix socket in place of TCP."""

    type: SocketNetType
    host: str | None = None
    port: int | None = None
    path: Path | None = None
    local_host: str | None = None
    local_port: int | None = None


class LinkState(enum.Enum):
    """Whether the cable is plugged in."""

    UP = "up"
    DOWN = "down"


@attrs.frozen(kw_only=True)
class RateSpec:
    """`rate_in` and `rate_out`: a limit, its burst, and the peak rate within the burst."""

    rate: Rate
    burst: Size | None = None
    peak: Rate | None = None


@attrs.frozen(kw_only=True)
class NicSpec:
    """`[[vm.NAME.nic]]`: a network card on a network, or on something else that it names.

    `tap` is the name of a tap for those who bring their own; `vdpa` a vhost-vdpa device. `rate_in`
    is what comes from the network towards the guest. `vlan` and `trunk` are for VLAN-aware bridges.
    `rom = false` leaves out the PXE ROM, which virtio cards have only when they are booted from.
    `failover` lets a host device with the same MAC address stand in for the card.
    """

    network: Name = DEFAULT_NETWORK
    user: UserNetSpec | None = None
    socket: SocketNetSpec | None = None
    vhost_user: VhostUserSpec | None = None
    tap: str | None = None
    vdpa: Path | None = None
    model: NicModel = NicModel.VIRTIO_NET
    mac: Mac | None = None
    ip: IPv4Address | None = None
    ip6: IPv6Address | None = None
    address: AddressSpec | None = None
    bootindex: int | None = None
    link: LinkState = LinkState.UP
    mtu: int | None = None
    rom: bool | None = None
    rom_bar: bool | None = None
    rom_file: Path | None = None
    queues: int | None = None
    vhost: bool | None = None
    rx_queue_size: int | None = None
    tx_queue_size: int | None = None
    tx: str | None = None
    sndbuf: Size | None = None
    failover: bool | None = None
    offloads: Mapping[str, bool] = attrs.field(factory=dict)
    vlan: int | None = None
    trunk: tuple[int, ...] = ()
    native_vlan: int | None = None
    rate_in: RateSpec | None = None
    rate_out: RateSpec | None = None
    antispoof: bool | None = None
    isolated: bool | None = None
    virtio: VirtioSpec = VirtioSpec()

    @property
    def is_networked(self) -> bool:
        """Whether it is on a network, and not on something else that it names."""
        others = (self.user, self.socket, self.vhost_user, self.tap, self.vdpa)
        return all(other is None for other in others)
