"""Machines on the host's own interfaces: a bridge around an uplink, macvtaps."""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qorch.api.rendezvous import COMMAND
from qorch.testing import Host

pytestmark = pytest.mark.live

MAC = "52:54:00:00:00:07"
GUEST = """
    [vm.web]
    memory = "64MiB"
    accel = "tcg"

    [[vm.web.disk]]
    path = "{disk}"

    [[vm.web.nic]]
    network = "office"
    mac = "{mac}"
"""
BRIDGE = '[network.office]\nmode = "bridge"\nuplink = "card"\nbridge = "br0"\n'
MACVTAP = '[network.office]\nmode = "macvtap"\nuplink = "card"\n'


@pytest.fixture
def wire(qorch_host: Host) -> Iterator[socket.socket]:
    """A card `card` with an address and a default route; what leaves it is heard at `far`."""
    for words in (
        "link add card type veth peer name far",
        "link set card up",
        "link set far up",
        "addr add 10.99.0.2/24 dev card",
        "route add default via 10.99.0.1",
    ):
        qorch_host.run("ip", *words.split())
    with qorch_host.inside():
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        heard.bind(("far", 0))
    heard.settimeout(120)
    yield heard
    heard.close()
    assert "10.99.0.2/24" in show(qorch_host, "addr", "show", "dev", "card")
    assert "default via 10.99.0.1 dev card" in show(qorch_host, "route")
    qorch_host.run("ip", "link", "del", "card")


def show(host: Host, *words: str) -> str:
    """What `ip` says."""
    with host.inside():
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def wait_guest(heard: socket.socket) -> None:
    """Wait for a frame of the guest's: it asks for an address."""
    own = bytes.fromhex(MAC.replace(":", ""))
    while heard.recv(2000)[6:12] != own:
        pass


def test_guests_are_on_the_network_of_the_uplink(
    qorch_host: Host, bios_disk: Path, wire: socket.socket
) -> None:
    """The host's address is on the bridge, the guest beside it; all survives the supervisor."""
    text = BRIDGE + GUEST.format(disk=bios_disk, mac=MAC)
    (change,) = [change for change in qorch_host.plan(text) if change["kind"] == "network"]
    assert change["detail"] == "bridge br0 around card, with its addresses and routes"
    qorch_host.up(text, wait=None)
    wait_guest(wire)
    assert "10.99.0.2/24" in show(qorch_host, "addr", "show", "dev", "br0")
    assert "default via 10.99.0.1 dev br0" in show(qorch_host, "route")
    (nic,) = qorch_host.machine("web").show()["nics"]
    *_, card, bridge, tap = qorch_host.qorch("network", "show", "office").stdout.splitlines()
    assert (card, bridge) == ("card", "└── br0")
    assert tap.startswith(f"    └── {nic['tap']}  web/nic0  {MAC}")
    packets = re.search(r"sent .*\((\d+) packets\), received .* packets\)", tap)
    assert packets
    assert int(packets[1]) > 0
    qorch_host.kill_supervisor()
    assert qorch_host.machine("web").show()["state"] == "running"
    assert "master br0" in show(qorch_host, "link", "show", "card")
    qorch_host.down(text)


def test_a_macvtap_goes_with_its_machine(
    qorch_host: Host, bios_disk: Path, wire: socket.socket
) -> None:
    """When QEMU dies, and when it dies while no supervisor looks."""
    text = MACVTAP + GUEST.format(disk=bios_disk, mac=MAC)
    qorch_host.up(text, wait=None)
    wait_guest(wire)
    assert MAC in show(qorch_host, "link", "show", "type", "macvtap")
    with qorch_host.client.open_events() as events:
        kill(qorch_host)
        assert any(event["event"] == "CRASHED" for event in events)
    assert show(qorch_host, "link", "show", "type", "macvtap") == ""
    qorch_host.up(text, wait=None)
    wait_guest(wire)
    pid = qorch_host.machine("web").show()["pid"]
    qorch_host.kill_supervisor()
    subprocess.run(["kill", "-9", str(pid)], check=True)
    assert qorch_host.machine("web").show()["state"] == "stopped"
    assert show(qorch_host, "link", "show", "type", "macvtap") == ""
    qorch_host.down(text)


def test_a_limit_goes_with_its_machine(qorch_host: Host, bios_disk: Path) -> None:
    """What the guest sends waits in an ifb, what it gets in the tap's own queue."""
    text = GUEST.format(disk=bios_disk, mac=MAC).replace("office", "lan")
    limits = '    rate_in = "80Mbit"\n    rate_out = { rate = "8Mbit", burst = "64KiB" }\n'
    qorch_host.up(text + limits + "[network.lan]\nantispoof = true\n", wait=None)
    (nic,) = qorch_host.machine("web").show()["nics"]
    assert "tbf" in show(qorch_host, "link", "show", nic["tap"])
    ifb = show(qorch_host, "link", "show", "type", "ifb")
    assert "tbf" in ifb
    with qorch_host.client.open_events() as events:
        kill(qorch_host)
        assert any(event["event"] == "CRASHED" for event in events)
    assert show(qorch_host, "link", "show", "type", "ifb") == ""
    qorch_host.down(text + "[network.lan]\n")


def kill(host: Host) -> None:
    """End the machine's QEMU."""
    pid = host.machine("web").show()["pid"]
    subprocess.run(["kill", f"-{signal.SIGKILL}", str(pid)], check=True)


def test_a_bridge_comes_with_what_is_plugged_into_it(qorch_host: Host, wire: socket.socket) -> None:
    """A network on the bridge of another one: that one comes first, whoever is asked for."""
    text = '[network.desk]\nmode = "bridge"\nbridge = "br0"\n' + BRIDGE
    qorch_host.up(text, wait=None)
    assert qorch_host.qorch("network", "down", "desk", "office").returncode == 0
    assert "br0" not in show(qorch_host, "link")
    assert qorch_host.qorch("network", "up", "desk").returncode == 0
    assert "master br0" in show(qorch_host, "link", "show", "card")
    qorch_host.down(text)


def test_kill_9_of_the_supervisor_while_the_uplink_moves(
    qorch_host: Host, wire: socket.socket
) -> None:
    """At random instants of up and down: the next start has it one way or the other."""
    dice = random.Random(7)  # noqa: S311
    qorch_host.up(BRIDGE, wait=None)
    for verb in ("down", "up", "down", "up"):
        with qorch_host.inside():
            child = subprocess.Popen(
                [*COMMAND, "--state-dir", qorch_host.directory, "network", verb, "office"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        subprocess.run(["sleep", f"{dice.uniform(0, 0.6):.3f}"], check=True)
        qorch_host.kill_supervisor()
        child.wait()
        assert qorch_host.qorch("network", verb, "office").returncode == 0
        home = "br0" if verb == "up" else "card"
        assert "10.99.0.2/24" in show(qorch_host, "addr", "show", "dev", home)
        assert f"default via 10.99.0.1 dev {home}" in show(qorch_host, "route")
    qorch_host.down(BRIDGE)
