"""What is wrong with a spec in itself, before any look at the host. All problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import attrs

from qorch.errors import Problem
from qorch.spec import (
    DiskSpec,
    MachineSpec,
    NetworkSpec,
    ReadySpec,
    Spec,
    VolumeSpec,
)
from qorch.units import Name
from qorch_storage.plan import ImageFormat, find_format

_MAX_INTERFACE_NAME = 15  # IFNAMSIZ less the final NUL
_MAX_VIRTIO_SERIAL = 20  # VIRTIO_BLK_ID_BYTES


def find_problems(spec: Spec) -> list[Problem]:
    """Everything that is wrong with a spec in itself, each problem with its path."""
    return [
        *_names(spec),
        *_in_each("vm", spec.vms, _machine),
        *_in_each("network", spec.networks, _network),
        *_in_each("volume", spec.volumes, _volume),
        *_shared_addresses(spec),
        *_overlapping_subnets(spec),
    ]


def _names(spec: Spec) -> Iterator[Problem]:
    """Names that did not come through the loader are checked here."""
    tables = {"vm": spec.vms, "network": spec.networks, "pool": spec.pools, "volume": spec.volumes}
    for table, entries in tables.items():
        for name in entries:
            try:
                Name.from_text(name)
            except ValueError as error:
                yield Problem(f"{table}.{name}", str(error))


def _in_each(
    table: str, entries: Mapping[Name, object], find: Callable[..., Iterator[Problem]]
) -> Iterator[Problem]:
    for name, entry in entries.items():
        for problem in find(entry):
            yield Problem(f"{table}.{name}{problem.path}", problem.message, problem.hint)


def _machine(vm: MachineSpec) -> Iterator[Problem]:
    yield from _cpu_and_memory(vm)
    if not vm.disks and vm.kernel is None:
        yield Problem("", "has nothing to boot from", "give it a [[disk]] or a kernel")
    for key in ("initrd", "append"):
        if getattr(vm, key) is not None and vm.kernel is None:
            yield Problem(f".{key}", "goes with a kernel", "give kernel = …, too")
    for index, disk in enumerate(vm.disks):
        for problem in _disk(disk):
            yield attrs.evolve(problem, path=f".disk[{index}]{problem.path}")
    yield from _ready(vm.ready)


def _cpu_and_memory(vm: MachineSpec) -> Iterator[Problem]:
    if vm.cpu.count < 1:
        yield Problem(".cpu.count", "a machine has at least one CPU")
    if vm.cpu.pin and len(vm.cpu.pin) != vm.cpu.count:
        yield Problem(
            ".cpu.pin",
            f"pins {len(vm.cpu.pin)} of {vm.cpu.count} vCPUs",
            "give one set of host CPUs per vCPU",
        )
    if vm.memory.size < 1 << 20 or vm.memory.size % (1 << 20):
        yield Problem(".memory.size", f"{vm.memory.size} is not a whole number of MiB")


def _ready(ready: ReadySpec) -> Iterator[Problem]:
    if ready.console is not None and ready.tcp is not None:
        yield Problem(".ready", "console and tcp exclude each other")
    try:
        re.compile(ready.console or "")
    except re.error as error:
        yield Problem(".ready.console", f"is not a regular expression: {error}")
    if ready.tcp is not None and not 0 < ready.tcp < 1 << 16:
        yield Problem(".ready.tcp", f"{ready.tcp} is not a TCP port")


def _disk(disk: DiskSpec) -> Iterator[Problem]:
    new = disk.size is not None or disk.backing is not None
    if sum((disk.path is not None, disk.volume is not None, new)) != 1:
        yield Problem(
            "",
            "is not one of: a path, a volume, or a new volume",
            "give path = …, or volume = …, or size = … and/or backing = …",
        )
    elif disk.path is not None and disk.format is None and find_format(disk.path) is None:
        yield Problem(".path", f"{disk.path.name!r} may be of any format", "give format, too")
    elif new:
        yield from _new_volume(disk)
    if disk.serial is not None and not 0 < len(disk.serial) <= _MAX_VIRTIO_SERIAL:
        yield Problem(".serial", f"is not 1 to {_MAX_VIRTIO_SERIAL} characters long")


def _volume(volume: VolumeSpec) -> Iterator[Problem]:
    if volume.size is None and volume.backing is None:
        yield Problem("", "has no size", "give size = … or backing = …")
    yield from _new_volume(volume)


def _new_volume(volume: DiskSpec | VolumeSpec) -> Iterator[Problem]:
    if volume.size is not None and (volume.size < 512 or volume.size % 512):
        yield Problem(".size", f"{volume.size} is not a whole number of 512-byte sectors")
    if volume.backing is None:
        return
    if volume.format not in (None, ImageFormat.QCOW2):
        yield Problem(".format", f"{volume.format} images have no backing file", "use qcow2")
    if volume.backing_format is None and find_format(volume.backing) is None:
        yield Problem(
            ".backing", f"{volume.backing.name!r} may be of any format", "give backing_format, too"
        )


def _network(network: NetworkSpec) -> Iterator[Problem]:
    yield from _bridge(network)
    if network.subnet is not None:
        yield from _subnet(network, network.subnet)
        return
    for key in ("gateway", "dhcp"):
        if getattr(network, key) is not None:
            yield Problem(f".{key}", "goes with a subnet", "give subnet = …, too")


def _bridge(network: NetworkSpec) -> Iterator[Problem]:
    if network.bridge is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", network.bridge):
        yield Problem(".bridge", f"{network.bridge!r} is no interface name")
    elif network.bridge is not None and len(network.bridge) > _MAX_INTERFACE_NAME:
        yield Problem(
            ".bridge",
            f"{network.bridge!r} is longer than an interface name can be",
            f"use at most {_MAX_INTERFACE_NAME} characters",
        )


def _subnet(network: NetworkSpec, subnet: IPv4Network) -> Iterator[Problem]:
    if subnet.is_multicast or subnet.is_reserved or subnet.is_unspecified:
        yield Problem(".subnet", f"{subnet} is not for hosts", "take one of 192.168.0.0/16")
    if subnet.prefixlen > 30:
        yield Problem(".subnet", f"{subnet} has no room for a guest")
    ends = {"dhcp.start": network.dhcp.start, "dhcp.end": network.dhcp.end} if network.dhcp else {}
    for key, address in {"gateway": network.gateway, **ends}.items():
        if address is not None and not _is_host(address, subnet):
            yield Problem(f".{key}", f"{address} is no host address of {subnet}")
    if network.dhcp and network.dhcp.start > network.dhcp.end:
        yield Problem(".dhcp", f"{network.dhcp.start} comes after {network.dhcp.end}")


def _is_host(address: IPv4Address, subnet: IPv4Network) -> bool:
    return subnet.network_address < address < subnet.broadcast_address


def _shared_addresses(spec: Spec) -> Iterator[Problem]:
    """MAC addresses that two cards have, IP addresses that two cards of one network have."""
    seen: dict[object, str] = {}
    for name, vm in spec.vms.items():
        for index, nic in enumerate(vm.nics):
            path = f"vm.{name}.nic[{index}]"
            for key, value, place in (("mac", nic.mac, None), ("ip", nic.ip, nic.network)):
                if value is None:
                    continue
                if (first := seen.setdefault((place, value), path)) != path:
                    yield Problem(f"{path}.{key}", f"{value} belongs to {first} already")


def _overlapping_subnets(spec: Spec) -> Iterator[Problem]:
    for (one, first), (other, second) in combinations(spec.networks.items(), 2):
        if first.subnet and second.subnet and first.subnet.overlaps(second.subnet):
            yield Problem(
                f"network.{other}.subnet",
                f"{second.subnet} overlaps {first.subnet} of network {one}",
            )
