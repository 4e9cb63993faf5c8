"""`<interface>`: network cards."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any

import attrs

from qorch.importxml.address import Buses, address_of, host_pci
from qorch.importxml.boot import BootDevice, BootOrder
from qorch.importxml.hostdevs import pair_of
from qorch.importxml.node import Node
from qorch.importxml.ports import vhost_user_of
from qorch.importxml.values import choose, make_name, path_of, virtio_of
from qorch.spec import (
    HostdevSpec,
    LinkState,
    NicModel,
    NicSpec,
    RateSpec,
    SocketNetSpec,
    SocketNetType,
    UserForwardSpec,
    UserNetSpec,
)
from qorch.spec.nic import Protocol
from qorch.units import Mac, Rate, Size

_MODELS = {
    **{model.value: model for model in NicModel},
    "virtio": NicModel.VIRTIO_NET,
    "virtio-transitional": NicModel.VIRTIO_NET,
    "virtio-non-transitional": NicModel.VIRTIO_NET,
    "virtio-net-pci": NicModel.VIRTIO_NET,
    "e1000-82540em": NicModel.E1000,
}
_SOCKETS = {
    "server": SocketNetType.LISTEN,
    "client": SocketNetType.CONNECT,
    "mcast": SocketNetType.MCAST,
    "udp": SocketNetType.UDP,
}
_TX = {"iothread": "bh", "timer": "timer"}
_OF_NETWORKS = {  # elements: keys of a NicSpec that are the network's to see to
    "vlan": ("vlan", "trunk", "native_vlan"),
    "bandwidth": ("rate_in", "rate_out"),
    "port": ("isolated",),
}
_OF_ANY_NETWORK = ("rate_in", "rate_out", "isolated")
_OFFLOADS = ("csum", "gso", "tso4", "tso6", "ecn", "ufo")


@attrs.frozen
class Network:
    """A network that a card is on: its name here, and what it was to libvirt."""

    name: str
    kind: str
    source: str


@attrs.define
class Nics:
    """What was found: cards, and those that are devices of the host."""

    nics: list[NicSpec] = attrs.field(factory=list)
    hostdevs: list[HostdevSpec] = attrs.field(factory=list)
    networks: list[Network] = attrs.field(factory=list)


def read_nics(devices: Node, buses: Buses, order: BootOrder, *, kvm: bool) -> Nics:
    """The network cards; only the first can be what `<boot dev='network'>` means."""
    found = Nics()
    for place, node in enumerate(devices.all("interface")):
        bootindex = order.take(node, BootDevice.NETWORK if place == 0 else None)
        if node.get("type") == "hostdev":
            found.hostdevs.append(_hostdev(node, devices, buses, bootindex))
            continue
        backend = _backend(node, place, found.networks)
        if backend is not None:
            values = _card(node, buses, kvm=kvm, tap=bool(backend.keys() & {"network", "tap"}))
            if "network" not in backend or backend["network"] == "default":
                _leave_networked(node, values, keep=_OF_ANY_NETWORK if "network" in backend else ())
            found.nics.append(NicSpec(bootindex=bootindex, **backend, **values))
    return found


def _hostdev(node: Node, devices: Node, buses: Buses, bootindex: int | None) -> HostdevSpec:
    node.get("managed")
    address = node.find("source", "address")
    address.get("type")
    if node.find("mac"):
        node.note("a virtual function's MAC address is set on the host", "/mac")
        node.find("mac").skip()
    node.leave_all("vlan", "virtualport", why="is set on the host")
    return HostdevSpec(
        host=host_pci(address),
        bootindex=bootindex,
        failover_pair=pair_of(node, devices),
        address=address_of(node, buses),
    )


def _leave_networked(node: Node, values: dict[str, Any], *, keep: tuple[str, ...]) -> None:
    """What only a network can see to, and libvirt's own `default` cannot."""
    for tag, keys in _OF_NETWORKS.items():
        found = [key for key in keys if key in values and key not in keep]
        for key in found:
            del values[key]
        if found:
            node.find(tag).note("goes with a network that has such")


def _backend(node: Node, place: int, networks: list[Network]) -> dict[str, Any] | None:  # noqa: PLR0911
    """What a card is connected to, as keys of a NicSpec."""
    kind, source = node.get("type") or "network", node.find("source")
    name = node.find("target").get("dev")
    match kind:
        case "network" | "bridge" | "direct":
            return _network(kind, source, networks)
        case "ethernet":
            own = name if name and not name.startswith(("vnet", "macvtap")) else None
            return {"tap": own or f"vnet{place}"}
        case "user":
            return {"user": _user(node)}
        case "null":
            return {"user": UserNetSpec(restrict=True)}
        case "server" | "client" | "mcast" | "udp":
            return {"socket": _socket(_SOCKETS[kind], source)}
        case "vhostuser":
            if node.find("backend").get("type") == "passt":
                return {"user": _user(node)}
            return {"vhost_user": vhost_user_of(source)}
        case "vdpa":
            return {"vdpa": path_of(source.get("dev"))}
    node.leave(f"interfaces of type {kind!r} have no counterpart")
    return None


def _network(kind: str, source: Node, networks: list[Network]) -> dict[str, Any]:
    for name in ("portid", "portgroup"):
        if source.get(name) and name == "portgroup":
            source.note("port groups have no counterpart", "@portgroup")
    text = source.get("network") or source.get("bridge") or source.get("dev") or "default"
    mode = source.get("mode")
    name = make_name(text, "default")
    network = Network(name, f"{kind} {mode}" if mode else kind, text)
    if network not in networks:
        networks.append(network)
    return {"network": name}


def _user(node: Node) -> UserNetSpec:
    backend = node.find("backend")
    backend.get("logFile")
    passt = backend.get("type") == "passt"
    nets: dict[str, Any] = {}
    for address in node.all("ip"):
        text, prefix = address.get("address"), address.number("prefix")
        address.get("family")
        prefix = prefix or (64 if ":" in (text or "") else 24)
        try:
            net = ip_network(f"{text}/{prefix}", strict=False)
        except ValueError:
            address.leave("is not a network")
            continue
        nets["net6" if isinstance(net, IPv6Network) else "net"] = net
        if str(net.network_address) != text and passt and isinstance(net, IPv4Network):
            nets["dhcp_start"] = IPv4Address(text)
        elif str(net.network_address) != text and (passt or isinstance(net, IPv4Network)):
            address.note(f"the network is {net}; the guest gets an address in it", "@address")
    if passt and node.get("type") == "vhostuser":
        backend.note("passt is reached over a stream here, not over vhost-user")
    return UserNetSpec(
        forwards=tuple(_forwards(node)),
        passt=passt,
        interface=node.find("source").get("dev") if passt else None,
        **nets,
    )


def _forwards(node: Node) -> Iterator[UserForwardSpec]:
    for forward in node.all("portForward"):
        proto = {"tcp": Protocol.TCP, "udp": Protocol.UDP}.get(forward.get("proto") or "")
        host = forward.get("address")
        if proto is None or forward.get("dev") or ":" in (host or ""):
            forward.leave("forwards of an IPv6 address or a device have no counterpart")
            continue
        for range_ in forward.all("range"):
            start, end, to = (range_.number(key) for key in ("start", "end", "to"))
            if start is None or range_.on("exclude"):
                range_.leave("is not forwarded")
                continue
            for offset in range(min(max((end or start) - start, 0), 1023) + 1):
                yield UserForwardSpec(
                    proto=proto,
                    host=IPv4Address(host) if host else None,
                    host_port=start + offset,
                    port=(to or start) + offset,
                )


def _socket(kind: SocketNetType, source: Node) -> SocketNetSpec:
    local = source.find("local")
    return SocketNetSpec(
        type=kind,
        host=source.get("address"),
        port=source.number("port"),
        local_host=local.get("address"),
        local_port=local.number("port"),
    )


def _card(node: Node, buses: Buses, *, kvm: bool, tap: bool) -> dict[str, Any]:
    """What the guest sees, and how well it is served."""
    text = node.find("model").get("type") or "rtl8139"
    model = choose(node, text, _MODELS, "model") or NicModel.E1000
    virtio = model is NicModel.VIRTIO_NET
    driver = node.find("driver")
    name = driver.get("name")
    vhost = virtio and tap and (name == "vhost" or (kvm and name != "qemu"))
    _leave(node)
    values: dict[str, Any] = {
        "model": model,
        "mac": _mac(node),
        "address": address_of(node, buses),
        "link": LinkState.DOWN if node.find("link").get("state") == "down" else LinkState.UP,
        "mtu": node.find("mtu").number("size"),
        "vhost": vhost if virtio and tap else None,
        "sndbuf": _sndbuf(node),
        "isolated": node.find("port").on("isolated"),
        **_rom(node, virtio=virtio),
        **_rates(node.find("bandwidth")),
        **_vlans(node.find("vlan")),
    }
    if virtio:
        values |= {
            "queues": driver.number("queues"),
            "rx_queue_size": driver.number("rx_queue_size"),
            "tx_queue_size": driver.number("tx_queue_size"),
            "failover": _is_persistent(node.find("teaming")),
            "tx": choose(driver, driver.get("txmode"), _TX, "txmode"),
            "offloads": _offloads(driver),
            "virtio": virtio_of(node, driver, text),
        }
    elif driver:
        driver.skip()
    return {key: value for key, value in values.items() if value is not None}


def _is_persistent(teaming: Node) -> bool | None:
    return True if teaming.get("type") == "persistent" else None


def _mac(node: Node) -> Mac | None:
    mac = node.find("mac")
    for name in ("type", "check"):
        mac.get(name)
    text = mac.get("address")
    try:
        return Mac.from_text(text) if text else None
    except ValueError as error:
        mac.note(str(error))
        return None


def _sndbuf(node: Node) -> Size | None:
    number = node.find("tune", "sndbuf").text_number()
    return None if number is None else Size(number)


def _rom(node: Node, *, virtio: bool) -> dict[str, Any]:
    """The ROM, which all of libvirt's cards have; virtio cards of qorch's do if it is said."""
    rom = node.find("rom")
    if rom.on("enabled") is False or rom.get("file") == "":  # the old way to say it
        rom.skip()
        return {"rom": False}
    file = rom.get("file")
    values: dict[str, Any] = {"rom_bar": rom.on("bar"), "rom_file": path_of(file)}
    if virtio and not file:
        values["rom"] = True
    return values


def _offloads(driver: Node) -> dict[str, bool]:
    """`<host>` and `<guest>` by QEMU's names of virtio-net's properties."""
    found = {}
    for side, prefix in (("host", "host_"), ("guest", "guest_")):
        child = driver.find(side)
        for name in (*_OFFLOADS, *(("mrg_rxbuf",) if side == "host" else ())):
            if (value := child.on(name)) is not None:
                bare = side == "host" and name in ("csum", "gso", "mrg_rxbuf")
                found[name if bare else prefix + name] = value
    for name, key in (("rss", "rss"), ("rss_hash_report", "hash")):
        if (value := driver.on(name)) is not None:
            found[key] = value
    return found


def _rates(node: Node) -> dict[str, Any]:
    """Kilobytes a second; `inbound` is towards the guest, as `rate_in`."""
    found = {}
    for name, key in (("inbound", "rate_in"), ("outbound", "rate_out")):
        child = node.find(name)
        if child.get("floor"):
            child.note("no rate is guaranteed to one card", "@floor")
        average, peak, burst = (child.number(key) for key in ("average", "peak", "burst"))
        if average:
            found[key] = RateSpec(
                rate=Rate(average * 8000),
                burst=Size(burst << 10) if burst else None,
                peak=Rate(peak * 8000) if peak else None,
            )
    return found


def _vlans(node: Node) -> dict[str, Any]:
    if not node:
        return {}
    tags = [(tag.number("id"), tag.get("nativeMode")) for tag in node.all("tag")]
    ids = [number for number, _ in tags if number is not None]
    if node.on("trunk") or len(ids) > 1:
        native = next((number for number, mode in tags if mode), None)
        return {"trunk": tuple(ids), "native_vlan": native}
    return {"vlan": ids[0]} if ids else {}


def _leave(node: Node) -> None:
    """What of an interface has no counterpart, or says nothing."""
    node.skip_all("guest")
    target = node.find("target")
    target.get("dev")
    target.get("managed")
    node.leave_all("script", "downscript", why="qorch runs no scripts")
    node.leave_all("virtualport", why="Open vSwitch and 802.1Qbh have no counterpart")
    node.leave_all("filterref", why="for its rules see antispoof, and the network's")
    node.leave_all("coalesce", "route")
    if node.find("backend").get("type") != "passt":
        node.find("backend").leave("which vhost and tun device are used is not asked")
    if node.get("type") not in ("user", "vhostuser"):
        node.leave_all("ip", why="addresses on the host's side are the network's")
    for name in ("trustGuestRxFilters", "managed"):
        if node.on(name) and name == "trustGuestRxFilters":
            node.note("QEMU's filters are not followed on the host", f"@{name}")
