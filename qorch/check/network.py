"""Networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from qorch.errors import Problem
from qorch.spec import NetworkSpec, Spec

_MAX_INTERFACE_NAME = 15  # IFNAMSIZ less the final NUL


def find_network_problems(network: NetworkSpec) -> Iterator[Problem]:
    """What is wrong with a network."""
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


def find_overlapping_subnets(spec: Spec) -> Iterator[Problem]:
    """Networks of one document that want the same addresses."""
    for (one, first), (other, second) in combinations(spec.networks.items(), 2):
        if first.subnet and second.subnet and first.subnet.overlaps(second.subnet):
            yield Problem(
                f"network.{other}.subnet",
                f"{second.subnet} overlaps {first.subnet} of network {one}",
            )
