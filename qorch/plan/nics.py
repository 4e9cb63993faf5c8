"""Network cards: their addresses and what is behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.hostdevs import find_taken
from qorch.plan.place import Placement
from qorch.plan.taps import plan_tap
from qorch.plan.values import MachinePlan, NicPlan
from qorch.spec import DEFAULT_NETWORK, Accel, NicModel, NicSpec
from qorch.units import Mac, Name
from qorch_net.errors import NetError
from qorch_net.plan import NetworkPlan, TapPlan, make_interface_name, pick_address

_OUI = "52:54:00"  # QEMU's
_PASST = "passt"


@attrs.frozen
class Addresses:
    """The addresses that are taken, by everyone but the machine being planned."""

    macs: frozenset[Mac]
    ips: frozenset[tuple[Name, IPv4Address]]
    cids: frozenset[int] = frozenset()
    hostdevs: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def from_machines(cls, machines: Collection[MachinePlan]) -> Addresses:
        """What these machines have."""
        nics = [nic for machine in machines for nic in machine.nics]
        return cls(
            frozenset(nic.mac for nic in nics),
            frozenset((nic.network, nic.ip) for nic in nics if nic.ip is not None and nic.network),
            frozenset(machine.vsock.cid for machine in machines if machine.vsock is not None),
            find_taken({machine.name: machine.hostdevs for machine in machines}),
        )

    def on(self, network: Name) -> set[IPv4Address]:
        """The IP addresses taken on one network."""
        return {ip for name, ip in self.ips if name == network}


@attrs.frozen
class NicPlanner:
    """What the cards of one machine are planned from."""

    path: str
    name: Name
    uuid: UUID
    accel: Accel
    facts: Facts
    networks: Mapping[Name, NetworkPlan]
    kept: MachinePlan | None
    taken: Addresses
    placement: Placement
    problems: list[Problem]

    def plan(self, specs: Sequence[NicSpec]) -> Iterator[NicPlan]:
        """The cards; what stands in the way is added to `problems`."""
        own: set[tuple[Name, IPv4Address]] = set()
        for index, nic in enumerate(specs):
            path = f"{self.path}.nic[{index}]"
            if nic.mac in self.taken.macs:
                message = f"{nic.mac} belongs to another machine"
                self.problems.append(
                    Problem(f"{path}.mac", message, "leave mac out: one is chosen")
                )
            mac = nic.mac or _make_mac(self.uuid, index, self.taken.macs)
            id_ = f"nic{index}"
            card = NicPlan(
                id=id_,
                spec=nic,
                network=None,
                mac=mac,
                mtu=nic.mtu,
                place=self.placement.get(id_),
            )
            if nic.is_networked:
                network = self._find_network(path, nic)
                if network is None:
                    continue
                used = self.taken.on(nic.network) | {ip for at, ip in own if at == nic.network}
                ip = _choose_ip(nic, mac, network, used, self.kept, path, self.problems)
                if ip is not None:
                    own.add((nic.network, ip))
                tap = self._plan_tap(path, id_, nic, network, mac, ip)
                card = attrs.evolve(card, network=nic.network, ip=ip, tap=tap)
                card = attrs.evolve(card, mtu=nic.mtu or network.mtu)
            elif nic.tap is not None:
                label = f"vm/{self.name}/{id_}"
                vhost = self._choose_vhost(path, nic)
                tap = TapPlan(
                    name=nic.tap,
                    owner=self.facts.owner,
                    label=label,
                    persistent=True,
                    queues=nic.queues or 1,
                    vhost=vhost,
                )
                card = attrs.evolve(card, tap=tap)
            elif nic.user is not None and nic.user.passt:
                card = attrs.evolve(card, program=self._find_passt(path))
            yield card

    def _find_passt(self, path: str) -> Path:
        if _PASST not in self.facts.programs:
            message, hint = "passt is not installed", "apt-get install passt"
            self.problems.append(Problem(f"{path}.user.passt", message, hint, on_host=True))
        return self.facts.programs.get(_PASST, Path(_PASST))

    def _find_network(self, path: str, nic: NicSpec) -> NetworkPlan | None:
        network = self.networks.get(nic.network)
        known = {problem.path for problem in self.problems}
        if network is None and f"network.{nic.network}" not in known:
            names = ", ".join(sorted({*self.networks, DEFAULT_NETWORK}))
            hint = f"known networks: {names}; define it as [network.{nic.network}]"
            message = f"there is no network {nic.network!r}"
            self.problems.append(Problem(f"{path}.network", message, hint))
        return network

    def _plan_tap(
        self,
        path: str,
        id_: str,
        nic: NicSpec,
        network: NetworkPlan,
        mac: Mac,
        ip: IPv4Address | None,
    ) -> TapPlan | None:
        """The tap on the network's bridge; None after a problem."""
        label = f"vm/{self.name}/{id_}"
        return plan_tap(
            path,
            nic,
            network,
            name=make_interface_name(self.facts.owner, label, self.name),
            label=label,
            mac=mac,
            ip=ip,
            vhost=self._choose_vhost(path, nic),
            problems=self.problems,
        )

    def _choose_vhost(self, path: str, nic: NicSpec) -> bool:
        """Whether the kernel moves the packets: where there is vhost-net, and KVM to go with it."""
        there = self.facts.vhost_net
        if nic.vhost and not there:
            message, hint = "this host has no /dev/vhost-net", "modprobe vhost_net"
            self.problems.append(Problem(f"{path}.vhost", message, hint, on_host=True))
        if nic.vhost is not None:
            return nic.vhost
        return there and self.accel is Accel.KVM and nic.model is NicModel.VIRTIO_NET


def _make_mac(uuid: UUID, index: int, taken: Collection[Mac]) -> Mac:
    """A MAC address under QEMU's prefix from a hash of the machine and the card's number."""
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{uuid}/{index}/{attempt}".encode()).digest()
        mac = Mac(f"{_OUI}:{digest[:3].hex(':')}")
        if mac not in taken:
            return mac
        attempt += 1


def _choose_ip(
    nic: NicSpec,
    mac: Mac,
    network: NetworkPlan,
    used: Collection[IPv4Address],
    kept: MachinePlan | None,
    path: str,
    problems: list[Problem],
) -> IPv4Address | None:
    """The address asked for, else the one the card has already, else a free one."""
    if network.dhcp is None or network.gateway is None:
        return nic.ip
    subnet, gateway = network.gateway.network, network.gateway.ip
    if nic.ip is not None:
        usable = subnet.network_address < nic.ip < subnet.broadcast_address
        if not usable or nic.ip == gateway:
            problems.append(
                Problem(
                    f"{path}.ip",
                    f"{nic.ip} is no guest address of {subnet}",
                    "leave ip out: one is chosen",
                )
            )
        elif nic.ip in used:
            problems.append(
                Problem(
                    f"{path}.ip",
                    f"{nic.ip} belongs to another machine",
                    "leave ip out: one is chosen",
                )
            )
        return nic.ip
    for old in kept.nics if kept else ():
        same = (old.mac, old.network) == (mac, network.name)
        if same and old.ip is not None and old.ip in network.dhcp and old.ip not in used:
            return old.ip
    try:
        return pick_address(mac, network.dhcp, used)
    except NetError as error:
        problems.append(Problem(path, error.message, error.hint))
        return None
