"""The verbs about networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from qorch.cli.errors import for_each
from qorch.cli.options import json_option, open_client
from qorch.cli.output import Progress, format_size, print_json, print_table
from qorch.network_client import NetworkClient

name_argument = click.argument("name")
names_argument = click.argument("names", nargs=-1, required=True, metavar="NAME...")


@click.group()
def network() -> None:
    """Networks: what is defined, what is up, who is on them."""


@network.command("ls")
@json_option
def list_networks(*, as_json: bool) -> None:
    """List the networks."""
    with open_client() as client:
        rows = NetworkClient(client).find_networks()
    if as_json:
        print_json(rows)
        return
    keys = ("name", "mode", "state", "bridge", "subnet", "subnet6", "machines")
    print_table(keys, [[_word(row[key]) for key in keys] for row in rows])


@network.command("show")
@name_argument
@json_option
def show_network(name: str, *, as_json: bool) -> None:
    """Show a network: uplink, bridge, the cards on it and what they have carried."""
    with open_client() as client:
        details = NetworkClient(client).show_network(name)
    if as_json:
        print_json(details)
        return
    shown = ("ports", "blockers", "forwards", "name", "mode", "state")
    print(f"{name}: {details['mode']}, {details['state']}")
    for key, value in details.items():
        if key not in shown and value not in (None, [], False, ""):
            print(f"{key + ':':16} {_word(value)}")
    for forward in details["forwards"]:
        print(f"{'forward:':16} {_describe_forward(forward)}")
    for blocker in details["blockers"]:
        print(f"{'stopped by:':16} {blocker['message']}")
        for cure in blocker["cures"]:
            print(f"{'cure:':16} {cure}")
    _draw(details)


@network.command("leases")
@name_argument
@json_option
def list_leases(name: str, *, as_json: bool) -> None:
    """List the addresses on a network: kept for a machine, or given out by DHCP."""
    with open_client() as client:
        rows = NetworkClient(client).find_leases(name)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("ip", "mac", "name", "state", "expires"),
        [
            (row["ip"], row["mac"], row["name"], _describe_lease(row), row["expires"])
            for row in rows
        ],
    )


@network.command("up")
@names_argument
def bring_up(names: tuple[str, ...]) -> None:
    """Bring networks up, or correct what is not as it should be."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(NetworkClient(client).up, report=progress))


@network.command("down")
@names_argument
def take_down(names: tuple[str, ...]) -> None:
    """Take networks down that no running machine uses; they stay defined."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(NetworkClient(client).down, report=progress))


def _describe_lease(row: dict[str, Any]) -> str:
    words = [word for word in ("planned", "leased") if row[word]]
    return ", ".join(words)


def _describe_forward(forward: dict[str, Any]) -> str:
    """`tcp 8080-8089 -> web (192.168.133.5) 80-89`."""
    first, last = forward["host_port"], forward["host_port"] + forward["count"] - 1
    host = f"{forward['host']}:" if forward["host"] else ""
    to, end = forward["port"], forward["port"] + forward["count"] - 1
    where = forward["ip"] or "nowhere yet"
    target = f"{forward['vm']} ({where})" if forward["vm"] else where
    return f"{forward['proto']} {host}{_range(first, last)} -> {target} {_range(to, end)}"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _draw(details: dict[str, Any]) -> None:
    """Uplink, sub-interface, bridge and ports, each below what it hangs on."""
    chain = [details[key] for key in ("uplink", "subinterface", "bridge") if details[key]]
    for depth, name in enumerate(chain or [details["mode"]]):
        print("    " * (depth - 1) + ("└── " if depth else "") + name)
    ports = [_describe_port(port) for port in details["ports"]]
    for index, port in enumerate(ports, 1):
        print("    " * max(len(chain) - 1, 0) + ("└── " if index == len(ports) else "├── ") + port)


def _describe_port(port: dict[str, Any]) -> str:
    words = [port["tap"]]
    if port["machine"]:
        ips = port["planned"] or port["leased"] or port["seen"]
        words += [f"{port['machine']}/{port['id']}", port["mac"], *ips]
    if counters := port["counters"]:  # what the tap receives, the guest has sent
        words.append(
            f"sent {format_size(counters['rx_bytes'])} ({counters['rx_packets']} packets),"
            f" received {format_size(counters['tx_bytes'])} ({counters['tx_packets']} packets)"
        )
        if dropped := counters["rx_dropped"] + counters["tx_dropped"]:
            words.append(f"dropped {dropped}")
    else:
        words.append("not there")
    return "  ".join(words)


def _word(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "yes" if value is True else str(value or "")
