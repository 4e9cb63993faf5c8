"""Machines: every identifier, decided from the spec, the host and what is defined already."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address
from uuid import UUID, uuid5

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.pci import SPARE_PORTS, make_root_ports
from qorch.plan.seed import make_seed_files
from qorch.plan.storage import Storage
from qorch.plan.values import Defined, DiskPlan, MachinePlan, NicPlan, Note, SeedPlan
from qorch.spec import DEFAULT_NETWORK, Accel, MachineFamily, MachineSpec, NicSpec
from qorch.units import Mac, Name
from qorch_net.errors import NetError
from qorch_net.plan import NetworkPlan, TapPlan, make_interface_name, pick_address

_NAMESPACE = UUID("6f3c9a4e-0d1b-5c57-9a55-2f8f3c1d7b90")  # made up once, for uuid5
_OUI = "52:54:00"  # QEMU's


@attrs.frozen
class Addresses:
    """The MAC and IP addresses that are taken, by everyone but the machine being planned."""

    macs: frozenset[Mac]
    ips: frozenset[tuple[Name, IPv4Address]]

    @classmethod
    def from_machines(cls, machines: Collection[MachinePlan]) -> Addresses:
        """What these machines have."""
        nics = [nic for machine in machines for nic in machine.nics]
        return cls(
            frozenset(nic.mac for nic in nics),
            frozenset((nic.network, nic.ip) for nic in nics if nic.ip is not None),
        )

    def on(self, network: Name) -> set[IPv4Address]:
        """The IP addresses taken on one network."""
        return {ip for name, ip in self.ips if name == network}


def plan_machine(
    name: Name,
    spec: MachineSpec,
    *,
    facts: Facts,
    storage: Storage,
    networks: Mapping[Name, NetworkPlan],
    defined: Defined,
    taken: Addresses,
    problems: list[Problem],
) -> tuple[MachinePlan, list[Note]]:
    """One machine and notes on it; what stands in its way is added to `problems`."""
    kept = defined.machines.get(name)
    uuid = spec.uuid or uuid5(_NAMESPACE, f"{facts.host_id}/{facts.owner}/{name}")
    accel, notes = _choose_accel(name, spec, facts, problems)
    problems += _find_host_problems(name, spec, facts)
    disks = [
        disk
        for index, disk_spec in enumerate(spec.disks)
        if (disk := storage.plan_disk(name, index, disk_spec))
    ]
    seed = None
    if spec.cloud_init is not None:
        files = make_seed_files(name, uuid, spec.cloud_init, facts, problems)
        seed = SeedPlan(path=facts.state.machine_data(name) / "seed.iso", files=files)
    machine = MachinePlan(
        name=name,
        owner=facts.owner,
        uuid=uuid,
        machine=spec.machine,
        accel=accel,
        cpu_model=spec.cpu.model or _choose_cpu_model(accel, facts),
        cpus=spec.cpu.count,
        pin=spec.cpu.pin,
        memory=spec.memory.size,
        balloon=spec.memory.balloon.enabled,
        rng=bool(spec.rngs),
        kernel=spec.kernel,
        initrd=spec.initrd,
        append=spec.append,
        disks=tuple(_number_boot_order(disks, direct=spec.kernel is not None)),
        nics=tuple(_plan_nics(name, uuid, spec, facts.owner, networks, kept, taken, problems)),
        seed=seed,
        ready=spec.ready,
        log_size=spec.console.log_size,
        powerdown_timeout=spec.powerdown_timeout,
    )
    return (
        _place(machine, problems) if spec.machine.family is MachineFamily.Q35 else machine
    ), notes


def _choose_accel(
    name: Name, spec: MachineSpec, facts: Facts, problems: list[Problem]
) -> tuple[Accel, list[Note]]:
    kvm = facts.kvm
    if spec.accel is Accel.KVM and kvm.error is not None:
        problems.append(
            Problem(f"vm.{name}.accel", kvm.error, 'accel = "auto" falls back to TCG, much slower')
        )
    if spec.accel is not Accel.AUTO:
        return spec.accel, []
    if kvm.usable:
        return Accel.KVM, []
    why = kvm.error or "the host CPU has neither vmx nor svm: its KVM runs no ordinary guest"
    return Accel.TCG, [
        Note(
            kind="vm",
            name=name,
            message=f"runs under TCG, many times slower than KVM: {why}",
        )
    ]


def _choose_cpu_model(accel: Accel, facts: Facts) -> str:
    """The best there is; a KVM without vmx or svm does not know all of the host CPU's MSRs."""
    if accel is Accel.KVM:
        return "host" if facts.kvm.hardware else "qemu64"
    return "max"


def _find_host_problems(name: Name, spec: MachineSpec, facts: Facts) -> Iterator[Problem]:
    for key in ("kernel", "initrd"):
        path = getattr(spec, key)
        if path is not None and (error := facts.files[path].error):
            yield Problem(f"vm.{name}.{key}", error)
    for index, cpus in enumerate(spec.cpu.pin):
        if missing := cpus - facts.cpus:
            yield Problem(
                f"vm.{name}.cpu.pin[{index}]",
                f"this host has no CPU {min(missing)}",
                f"its CPUs are {type(cpus)(facts.cpus)}",
            )


def _number_boot_order(disks: list[DiskPlan], *, direct: bool) -> Iterator[DiskPlan]:
    """Disks are booted from in the order they are written, unless a kernel is given."""
    for order, disk in enumerate(disks, 1):
        yield disk if direct else attrs.evolve(disk, bootindex=order)


def _plan_nics(
    name: Name,
    uuid: UUID,
    spec: MachineSpec,
    owner: str,
    networks: Mapping[Name, NetworkPlan],
    kept: MachinePlan | None,
    taken: Addresses,
    problems: list[Problem],
) -> Iterator[NicPlan]:
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
        yield NicPlan(
            id=id_,
            network=nic.network,
            model=nic.model,
            mac=mac,
            ip=ip,
            tap=TapPlan(
                name=make_interface_name(owner, label, name),
                owner=owner,
                label=label,
                bridge=network.bridge,
                mtu=network.mtu,
            ),
        )


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


def _place(machine: MachinePlan, problems: list[Problem]) -> MachinePlan:
    """Give each device a root port: cards first, so that a new disk does not rename them."""
    count = len(machine.nics) + len(machine.disks) + bool(machine.seed)
    count += machine.balloon + machine.rng + SPARE_PORTS
    try:
        ports = make_root_ports(count)
    except ValueError as error:
        problems.append(Problem(f"vm.{machine.name}", str(error)))
        return machine
    bus = iter(port.id for port in ports)
    return attrs.evolve(
        machine,
        ports=ports,
        nics=tuple(attrs.evolve(nic, bus=next(bus)) for nic in machine.nics),
        disks=tuple(attrs.evolve(disk, bus=next(bus)) for disk in machine.disks),
        seed=attrs.evolve(machine.seed, bus=next(bus)) if machine.seed else None,
        balloon_bus=next(bus) if machine.balloon else None,
        rng_bus=next(bus) if machine.rng else None,
    )
