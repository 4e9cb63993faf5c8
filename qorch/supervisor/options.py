"""DHCP options of networks, which dnsmasq knows best. Blocking: it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from qorch.errors import Problem
from qorch.units import Name
from qorch_net.plan import NetworkPlan

_SIX = "option6:"


def find_option_problems(networks: Mapping[Name, NetworkPlan], dnsmasq: Path) -> Iterator[Problem]:
    """What dnsmasq does not take of the options of these networks. Raises NetError."""
    from qorch_net.dnsmasq.options import find_bad_options  # noqa: PLC0415

    for name, network in networks.items():
        for option, said in find_bad_options(network.dhcp_options, dnsmasq=dnsmasq):
            word = option.option
            key = (
                f"dhcp6.options.{word[len(_SIX) :]}"
                if word.startswith(_SIX)
                else f"dhcp.options.{word}"
            )
            yield Problem(
                f"network.{name}.{key}",
                f"{option.value!r} cannot be: dnsmasq says: {said}",
                "`dnsmasq --help dhcp` and `dnsmasq --help dhcp6` list the names of options",
            )
