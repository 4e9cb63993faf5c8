"""dnsmasq's files for one network, as bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from qorch_net.plan import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Interface, IPv6Interface
    from pathlib import Path

    from qorch_net.plan import DhcpOption, Lease, NetworkPlan

CONFIG, HOSTS, DHCP_HOSTS, LOADED = "dnsmasq.conf", "hosts", "dhcp-hosts", "loaded"
LEASES, PID = "leases", "pid"
_LEASE_TIME: Final = "1h"
_SPARE6: Final = 1000  # DHCPv6 leases beside those of IPv4: a range may have 2^64 addresses

Files = dict[str, bytes]


def make_files(plan: NetworkPlan, directory: Path, user: str) -> Files:
    """Make the configuration of a network's dnsmasq, ready to be written."""
    return {
        CONFIG: _lines(_make_config(plan, directory, user)),
        HOSTS: _lines(_make_names(plan)),
        DHCP_HOSTS: _lines(map(_make_host, plan.leases)),
    }


def make_loaded(files: Files) -> Files:
    """Make the note that dnsmasq works with these files."""
    return {
        LOADED: b"%s %s\n" % (make_digest(files, CONFIG), make_digest(files, HOSTS, DHCP_HOSTS))
    }


def make_digest(files: Files, *names: str) -> bytes:
    """Make the digest of some files' contents."""
    contents = b"\0".join(files.get(name, b"") for name in names)
    return hashlib.sha256(contents).hexdigest().encode()


def _make_names(plan: NetworkPlan) -> Iterator[str]:
    for lease in plan.leases:
        for ip in (lease.ip, lease.ip6):
            if ip is not None:
                yield f"{ip} {lease.name}.{plan.domain} {lease.name}"


def _make_host(lease: Lease) -> str:
    addresses = [str(lease.ip)] if lease.ip else []
    addresses += [f"[{lease.ip6}]"] if lease.ip6 else []
    return ",".join([lease.mac, *addresses, lease.name])


def _make_config(plan: NetworkPlan, directory: Path, user: str) -> Iterator[str]:
    yield f"# qorch {plan.mark}"
    yield f"interface={plan.bridge}"
    yield "except-interface=lo"
    yield "bind-dynamic"  # on this bridge only, also for what arrives elsewhere for its address
    yield f"user={user}"
    yield f"pid-file={directory / PID}"
    yield from _make_dns(plan, directory)
    if plan.dhcp or plan.dhcp6 or plan.ra:
        spare = (len(plan.dhcp) if plan.dhcp else 0) + (_SPARE6 if plan.dhcp6 else 0)
        yield f"dhcp-lease-max={spare + len(plan.leases)}"
        yield f"dhcp-hostsfile={directory / DHCP_HOSTS}"
        yield f"dhcp-leasefile={directory / LEASES}"
        yield "dhcp-authoritative"
    if plan.gateway and plan.dhcp:
        yield from _make_dhcp(plan, plan.gateway)
    if plan.gateway6 and (plan.dhcp6 or plan.ra):
        yield from _make_dhcp6(plan, plan.gateway6)
    yield from map(make_option, plan.dhcp_options)


def _make_dns(plan: NetworkPlan, directory: Path) -> Iterator[str]:
    yield "no-hosts"
    yield f"addn-hosts={directory / HOSTS}"
    yield f"domain={plan.domain}"
    yield f"local=/{plan.domain}/"
    yield "domain-needed"
    if plan.dns or plan.mode is Mode.ISOLATED:  # whose guests reach nobody by way of DNS, either
        yield "no-resolv"
    yield from (f"server={server}" for server in plan.dns)


def _make_dhcp(plan: NetworkPlan, gateway: IPv4Interface) -> Iterator[str]:
    if plan.dhcp:
        yield f"dhcp-range={plan.dhcp.start},{plan.dhcp.end},{gateway.netmask},{_LEASE_TIME}"
    # An isolated network leads nowhere: without a value the option is not sent.
    router = f",{gateway.ip}" if _leads_out(plan) else ""
    yield f"dhcp-option=option:router{router}"
    yield f"dhcp-option=option:dns-server,{gateway.ip}"
    yield "no-ping"  # a ping before each offer costs the guest 3 s
    if plan.mtu:
        yield f"dhcp-option=option:mtu,{plan.mtu}"


def _make_dhcp6(plan: NetworkPlan, gateway: IPv6Interface) -> Iterator[str]:
    """Router advertisements tell the router, DHCPv6 cannot; `slaac` has guests make addresses."""
    prefix = gateway.network
    yield "enable-ra"
    if plan.dhcp6:
        slaac = ["slaac"] if plan.ra else []
        words = [str(plan.dhcp6.start), str(plan.dhcp6.end), *slaac, str(prefix.prefixlen)]
        yield f"dhcp-range={','.join(words)},{_LEASE_TIME}"
    else:
        words = [str(prefix.network_address), "ra-stateless", "ra-names", str(prefix.prefixlen)]
        yield f"dhcp-range={','.join(words)},{_LEASE_TIME}"
    # Every 10 minutes, as dnsmasq does by default; as a router for no time where it leads nowhere.
    mtu, lifetime = f"mtu:{plan.mtu}," if plan.mtu else "", "" if _leads_out(plan) else ",0"
    if mtu or lifetime:
        yield f"ra-param={plan.bridge},{mtu}600{lifetime}"
    yield f"dhcp-option=option6:dns-server,[{gateway.ip}]"


def _leads_out(plan: NetworkPlan) -> bool:
    return plan.mode is not Mode.ISOLATED or bool(plan.reach)


def make_option(option: DhcpOption) -> str:
    """Make the line of an option. Names and DHCPv6 need the word `option`, numbers must not."""
    name = option.option
    is_plain = name.isdecimal() or name.startswith(("option:", "option6:"))
    return f"dhcp-option={'' if is_plain else 'option:'}{name},{option.value}"


def _lines(lines: Iterator[str] | map[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
