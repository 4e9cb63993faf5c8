"""Network cards and what is behind them."""

from __future__ import annotations

from collections.abc import Iterator

from qorch.argv.chardev import make_chardev
from qorch.argv.transport import find_transport
from qorch.handles import Handles
from qorch.plan import MachinePlan, NicPlan
from qorch.spec import NicModel, SocketNetSpec, SocketNetType, UserForwardSpec, UserNetSpec
from qorch.switch import Switch
from qorch.switch.device import Device, Transport, VirtioCommon
from qorch.switch.netdev import (
    Netdev,
    NetdevSocket,
    NetdevStream,
    NetdevTap,
    NetdevUser,
    NetdevVdpa,
    NetdevVhostUser,
)
from qorch.switch.nic import DeviceNic, DeviceVirtioNet, NicCommon


def make_nic(plan: MachinePlan, nic: NicPlan, handles: Handles) -> Iterator[Switch]:
    """A card on its back end."""
    if nic.spec.vhost_user is not None:
        yield from make_chardev(nic.id, nic.spec.vhost_user.backend, handles)
    yield _netdev(nic, handles)
    yield _device(plan, nic)


def _netdev(nic: NicPlan, handles: Handles) -> Netdev:
    spec = nic.spec
    if nic.program is not None:
        return NetdevStream(id=nic.id, server=False, fd=handles[nic.id])
    if spec.user is not None:
        return _user(nic.id, spec.user)
    if spec.socket is not None:
        return _socket(nic.id, spec.socket)
    if spec.vhost_user is not None:
        return NetdevVhostUser(id=nic.id, chardev=nic.id, queues=spec.queues)
    if spec.vdpa is not None:
        return NetdevVdpa(id=nic.id, vhostdev=spec.vdpa, queues=spec.queues)
    return NetdevTap(
        id=nic.id,
        queues=handles.find_all(f"{nic.id}.queue"),
        vhosts=handles.find_all(f"{nic.id}.vhost"),
        sndbuf=None if spec.sndbuf is None else int(spec.sndbuf),
    )


def _user(id_: str, user: UserNetSpec) -> NetdevUser:
    return NetdevUser(
        id=id_,
        net=_text(user.net),
        host=_text(user.host),
        dhcpstart=_text(user.dhcp_start),
        dns=_text(user.dns),
        ipv6_prefix=None if user.net6 is None else str(user.net6.network_address),
        ipv6_prefixlen=None if user.net6 is None else user.net6.prefixlen,
        restrict=user.restrict or None,
        hostfwd=tuple(_forward(forward) for forward in user.forwards),
    )


def _forward(forward: UserForwardSpec) -> str:
    host, guest = _text(forward.host) or "", _text(forward.guest) or ""
    return f"{forward.proto.value}:{host}:{forward.host_port}-{guest}:{forward.port}"


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)


def _socket(id_: str, socket: SocketNetSpec) -> Netdev:
    if socket.path is not None:
        server = socket.type is SocketNetType.LISTEN
        return NetdevStream(id=id_, server=server, path=socket.path)
    where = f"{socket.host or ''}:{socket.port}"
    local = None
    if socket.local_host is not None or socket.local_port is not None:
        local = socket.local_host or ""
        if socket.type is SocketNetType.UDP:
            local = f"{local}:{socket.local_port}"
    return NetdevSocket(id=id_, localaddr=local, **{socket.type.value: where})


def _device(plan: MachinePlan, nic: NicPlan) -> Device:
    """Virtio cards have PXE only where they are booted from; all others come with it."""
    spec, transport = nic.spec, find_transport(plan)
    virtio = spec.model is NicModel.VIRTIO_NET
    common = NicCommon(
        netdev=nic.id,
        mac=nic.mac,
        bootindex=spec.bootindex,
        rombar=None if spec.rom_bar is None else int(spec.rom_bar),
        romfile=_romfile(nic) if not virtio or transport is Transport.PCI else None,
    )
    id_ = f"{nic.id}-dev"
    if not virtio:
        return DeviceNic(model=spec.model.value, id=id_, place=nic.place, nic=common)
    several = nic.queues > 1
    return DeviceVirtioNet(
        transport=transport,
        id=id_,
        place=nic.place,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
        nic=common,
        mq=True if several else None,
        vectors=2 * nic.queues + 2 if several and transport is Transport.PCI else None,
        host_mtu=nic.mtu,
        rx_queue_size=spec.rx_queue_size,
        tx_queue_size=spec.tx_queue_size,
        tx=spec.tx,
        failover=spec.failover,
        offloads=dict(spec.offloads),
    )


def _romfile(nic: NicPlan) -> str | None:
    spec = nic.spec
    if spec.rom_file is not None:
        return str(spec.rom_file)
    wanted = spec.rom
    if wanted is None:
        wanted = spec.model is not NicModel.VIRTIO_NET or spec.bootindex is not None
    return None if wanted or spec.model is NicModel.USB_NET else ""
