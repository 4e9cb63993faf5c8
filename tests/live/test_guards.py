"""Guests that are kept from speaking as somebody else, as a document asks for it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qorch.testing import Host

pytestmark = pytest.mark.live

DOCUMENT = """
    [network.lan]
    subnet = "192.168.150.0/24"
    antispoof = {guarded}
    forward = [{{ host_port = 7070, vm = "web", port = 7, proto = "udp" }}]

    [vm.web]
    memory = "64MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.disk]]
    path = "{disk}"

    [[vm.web.nic]]
    network = "lan"
"""


def find_guards(host: Host) -> list[str]:
    """The chains of guarded taps."""
    rules = host.run("nft", "list", "chains", "bridge").stdout
    return [line for line in rules.splitlines() if "guard/lan/" in line]


def test_a_guarded_guest_works_and_its_guard_goes_with_it(
    qorch_host: Host, bios_disk: Path
) -> None:
    """It gets its address and answers on its forwarded port; its guard ends with its definition."""
    text = DOCUMENT.format(disk=bios_disk, guarded="true")
    qorch_host.up(text)
    (guard,) = find_guards(qorch_host)
    (nic,) = qorch_host.machine("web").show()["nics"]
    assert f"/{nic['tap']}/" in guard
    qorch_host.run("ping", "-c1", "-W10", nic["ips"][0])
    with qorch_host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.sendto(b"hello", ("127.0.0.1", 7070))
        assert b"hello" in sock.recv(1500)
    qorch_host.up(DOCUMENT.format(disk=bios_disk, guarded="false"), restart=True)
    assert find_guards(qorch_host) == []
    qorch_host.up(text, restart=True)
    assert len(find_guards(qorch_host)) == 1
    qorch_host.down(text)
    assert qorch_host.find_leftovers() == []
