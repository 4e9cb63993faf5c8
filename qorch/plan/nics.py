"""Network cards: their addresses and what is behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address
from uuid import UUID

import attrs

from qorch.errors import Problem
from qorch.plan.taps import plan_tap
from qorch.plan.values import MachinePlan, NicPlan
from qorch.spec import DEFAULT_NETWORK, MachineSpec, NicSpec
from qorch.units import Mac, Name
from qorch_net.errors import NetError
from qorch_net.plan import NetworkPlan, make_interface_name, pick_address

_OUI = "52:54:00"  # QEMU's


@attrs.frozen
class Addresses:
    """The addresses that are taken, by everyone but the machine being planned."""

    macs: frozenset[Mac]
    ips: frozenset[tuple[Name, IPv4Address]]
    cids: frozenset[int] = frozenset()

    @classmethod
    def from_machines(cls, machines: Collection[MachinePlan]) -> Addresses:
        """What these machines have."""
        nics = [nic for machine in machines for nic in machine.nics]
        return cls(
            frozenset(nic.mac for nic in nics),
            frozenset((nic.network, nic.ip) for nic in nics if nic.ip is not None),
            frozenset(machine.vsock.cid for machine in machines if machine.vsock is not None),
        )

    def on(self, network: Name) -> set[IPv4Address]:
        """The IP addresses taken on one network."""
        return {ip for name, ip in self.ips if name == network}


def plan_nics(
    name: Name,
    uuid: UUID,
    spec: MachineSpec,
    owner: str,
    networks: Mapping[Name, NetworkPlan],
    kept: MachinePlan | None,
    taken: Addresses,
    problems: list[Problem],
) -> Iterator[NicPlan]:
    """The cards of one machine; what stands in the way is added to `problems`."""
    own: set[tuple[Name, IPv4Address]] = set()
    for index, nic in enumerate(spec.nics):
        path, id_ = f"vm.{name}.nic[{index}]", f"nic{index}"
        network = networks.get(nic.network)
        if network is None:
            if f"network.{nic.network}" not in {problem.path for problem in problems}:
                known = ", ".join(sorted({*networks, DEFAULT_NETWORK}))
                problems.append(
                    Problem(
                        f"{path}.network",
                        f"there is no network {nic.network!r}",
                        f"known networks: {known}; define it as [network.{nic.network}]",
                    )
                )
            continue
        if nic.mac in taken.macs:
            problems.append(Problem(f"{path}.mac", f"{nic.mac} belongs to another machine"))
        mac = nic.mac or _make_mac(uuid, index, taken.macs)
        used = taken.on(nic.network) | {ip for place, ip in own if place == nic.network}
        ip = _choose_ip(nic, mac, network, used, kept, path, problems)
        if ip is not None:
            own.add((nic.network, ip))
        label = f"vm/{name}/{id_}"
        tap = plan_tap(
            path,
            nic,
            network,
            name=make_interface_name(owner, label, name),
            label=label,
            mac=mac,
            ip=ip,
            problems=problems,
        )
        if tap is not None:
            yield NicPlan(id=id_, network=nic.network, model=nic.model, mac=mac, ip=ip, tap=tap)


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
            problems.append(Problem(f"{path}.ip", f"{nic.ip} is no guest address of {subnet}"))
        elif nic.ip in used:
            problems.append(Problem(f"{path}.ip", f"{nic.ip} belongs to another machine"))
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
