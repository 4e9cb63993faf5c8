"""Network cards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network

from qorch.check.chardev import find_vhost_user_problems
from qorch.errors import Problem
from qorch.spec import (
    DEFAULT_NETWORK,
    MachineSpec,
    NicModel,
    NicSpec,
    SocketNetSpec,
    SocketNetType,
    UserNetSpec,
    VirtioSpec,
)

_BACK_ENDS = ("user", "socket", "vhost_user", "tap", "vdpa")
_VIRTIO_KEYS = ("queues", "rx_queue_size", "tx_queue_size", "tx", "failover")
_NETWORK_KEYS = (
    *("ip", "ip6", "vlan", "native_vlan", "rate_in", "rate_out", "antispoof", "isolated"),
)
_TAP = re.compile(r"[^\s/:]{1,15}")  # IFNAMSIZ less its NUL (net/core/dev.c, dev_valid_name)
_USER_NET = IPv4Network("10.0.2.0/24")  # QEMU's own choice
_QUEUE_SIZES = (256, 512, 1024)  # hw/net/virtio-net.c
_MAX_QUEUES = 256  # MAX_TAP_QUEUES


def find_nic_problems(vm: MachineSpec, nic: NicSpec) -> Iterator[Problem]:
    """What is wrong with a card."""
    given = [key for key in _BACK_ENDS if getattr(nic, key) is not None]
    if len(given) > 1:
        yield Problem(f".{given[1]}", f"the card is on {given[0]} already", "keep one of them")
    if given and nic.network != DEFAULT_NETWORK:
        yield Problem(".network", f"the card is on {given[0]} already", "keep one of them")
    virtio = nic.model is NicModel.VIRTIO_NET
    for key in _VIRTIO_KEYS:
        if getattr(nic, key) is not None and not virtio:
            yield Problem(f".{key}", f"{nic.model.value} has none", 'model = "virtio-net"')
    if (nic.offloads or nic.virtio != VirtioSpec()) and not virtio:
        key = "offloads" if nic.offloads else "virtio"
        yield Problem(f".{key}", f"{nic.model.value} is not virtio", 'model = "virtio-net"')
    yield from _queues(nic)
    for key in _NETWORK_KEYS:
        if given and getattr(nic, key) is not None:
            yield Problem(f".{key}", f"goes with a network, not with {given[0]}", "leave it out")
    yield from _back_end(vm, nic, given)


def _back_end(vm: MachineSpec, nic: NicSpec, given: list[str]) -> Iterator[Problem]:
    if nic.vhost is not None and not (nic.is_networked or nic.tap):
        yield Problem(".vhost", f"goes with a tap, not with {given[0]}", "leave it out")
    if nic.tap is not None and not _TAP.fullmatch(nic.tap):
        hint = "up to 15 characters, without spaces, '/' and ':'"
        yield Problem(".tap", f"{nic.tap!r} is no name of an interface", hint)
    if nic.user is not None:
        yield from _user(nic.user)
    if nic.rom is False and nic.rom_file is not None:
        yield Problem(".rom_file", "is given, but rom = false leaves ROMs out", "keep one of them")
    if nic.socket is not None:
        yield from _socket(nic.socket)
    if nic.tx not in (None, "timer", "bh"):
        yield Problem(".tx", f"{nic.tx!r} is neither timer nor bh", '"bh" sends at once')
    if nic.vhost_user is not None:
        yield from find_vhost_user_problems(vm, ".vhost_user", nic.vhost_user)


def _user(user: UserNetSpec) -> Iterator[Problem]:
    """Each port of the host leads to one guest's port."""
    if user.passt and user.restrict:
        yield Problem(".user.restrict", "passt lets guests go everywhere", "passt = false")
    if user.interface is not None and not user.passt:
        yield Problem(".user.interface", "is for passt to go out by", "passt = true")
    net = user.net or _USER_NET
    places = {"host": user.host, "dhcp_start": user.dhcp_start, "dns": user.dns}
    places |= {f"forward[{n}].guest": item.guest for n, item in enumerate(user.forwards)}
    for key, address in places.items():
        if address is not None and address not in net:
            yield Problem(f".user.{key}", f"{address} is no address of {net}", "choose one within")
    seen: dict[object, int] = {}
    for index, forward in enumerate(user.forwards):
        path = f".user.forward[{index}]"
        if user.passt and forward.guest is not None:
            yield Problem(f"{path}.guest", "passt's guests have one address", "leave it out")
        for key in ("host_port", "port"):
            if not 0 < getattr(forward, key) < 1 << 16:
                message = f"{getattr(forward, key)} is no port"
                yield Problem(f"{path}.{key}", message, "1 to 65535")
        place = (forward.proto, forward.host, forward.host_port)
        if (first := seen.setdefault(place, index)) != index:
            message = f"{forward.host_port} is forward[{first}]'s already"
            yield Problem(f"{path}.host_port", message, "each port of the host leads to one place")


def _queues(nic: NicSpec) -> Iterator[Problem]:
    for key in ("rx_queue_size", "tx_queue_size"):
        size = getattr(nic, key)
        if size is not None and size not in _QUEUE_SIZES:
            yield Problem(f".{key}", f"{size} is none of 256, 512, 1024", "a power of two")
    if nic.queues is None:
        return
    if not 1 <= nic.queues <= _MAX_QUEUES:
        yield Problem(
            ".queues", f"{nic.queues} is not 1 to {_MAX_QUEUES}", "one for each vCPU is enough"
        )
    if nic.queues > 1 and (nic.user is not None or nic.socket is not None):
        yield Problem(".queues", "only taps, vhost-user and vDPA have several", "leave it out")


def _socket(socket: SocketNetSpec) -> Iterator[Problem]:
    if socket.path is not None:
        if socket.type not in (SocketNetType.LISTEN, SocketNetType.CONNECT):
            yield Problem(
                ".socket.path",
                f"a Unix socket cannot {socket.type.value}",
                'type = "listen" or "connect"',
            )
        if socket.port is not None or socket.host is not None:
            yield Problem(".socket.path", "goes without host and port", "keep one of them")
    elif socket.port is None:
        yield Problem(".socket.port", "is missing", "port = …, or path = … for a Unix socket")
    elif socket.host is None and socket.type is not SocketNetType.LISTEN:
        yield Problem(".socket.host", "is missing", "host = …")
    if socket.type is SocketNetType.UDP and socket.local_port is None:
        yield Problem(".socket.local_port", "is missing", "the port that the other end sends to")
