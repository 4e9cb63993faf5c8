"""Machines on VLANs, in the test VM: what their network cards send, as the uplink has it."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qorch.testing import Host
from qorch.testing.namespace import enter_namespace, open_namespace

pytestmark = pytest.mark.testbed

MACHINE = """
    [vm.vm{vlan}]
    memory = "64MiB"

    [[vm.vm{vlan}.disk]]
    path = "{disk}"

    [[vm.vm{vlan}.nic]]
    mac = "{mac}"
"""
OWN = """
    network = "office{vlan}"
"""
SHARED = """
    network = "office"
    vlan = {vlan}
"""
SEPARATE = """
    [network.office10]
    mode = "vlan"
    uplink = "up0"
    vlan = 10
    bridge = "brvlan10"

    [network.office20]
    mode = "vlan"
    uplink = "up0"
    vlan = 20
    bridge = "brvlan20"
"""
AWARE = """
    [network.office]
    mode = "bridge"
    uplink = "up0"
    vlan_filtering = true
    trunk = [10, 20]
"""
ETH_P_ALL = 3  # linux/if_ether.h
SOL_PACKET, PACKET_AUXDATA = 263, 8  # linux/if_packet.h
TP_STATUS_VLAN_VALID = 1 << 4
MACS = {10: "52:54:00:00:10:00", 20: "52:54:00:00:20:00"}


def receive_frame(end: socket.socket) -> tuple[int | None, bytes]:
    """The next frame and the VLAN of its tag, which the kernel took off."""
    frame, ancillary, _, _ = end.recvmsg(2048, 64)
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, tci = struct.unpack_from("I12xH", data)
            if status & TP_STATUS_VLAN_VALID:
                return tci & 0xFFF, frame
    return None, frame


@pytest.fixture
def wire(qorch_host: Host) -> Iterator[socket.socket]:
    """The far end of the cable of an uplink `up0`."""
    with open_namespace() as far:
        run = qorch_host.run
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far")
        run("ip", "link", "set", "far", "netns", f"/proc/{os.getpid()}/fd/{far}")
        run("ip", "link", "set", "up0", "up")
        with enter_namespace(far):  # a socket stays where it was made
            subprocess.run(["ip", "link", "set", "far", "up"], check=True)
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            end.bind(("far", ETH_P_ALL))
        end.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        end.settimeout(180)
        with end:
            yield end
        run("ip", "link", "del", "up0")


@pytest.mark.parametrize(
    ("networks", "card"), [(SEPARATE, OWN), (AWARE, SHARED)], ids=["separate", "aware"]
)
def test_frames_are_tagged(
    qorch_host: Host, wire: socket.socket, bios: Path, tmp_path: Path, networks: str, card: str
) -> None:
    """What a machine on a VLAN sends leaves by the uplink with that VLAN's tag, and no other."""
    text = networks
    for vlan, mac in MACS.items():
        disk = shutil.copy(bios / "disk.img", tmp_path / f"{vlan}.raw")
        text += MACHINE.format(vlan=vlan, disk=disk, mac=mac) + card.format(vlan=vlan)
    qorch_host.up(text, wait=None)
    seen: set[tuple[str, int | None]] = set()
    wanted = {(mac, vlan) for vlan, mac in MACS.items()}
    while not wanted <= seen:  # they ask for an address, again and again
        vlan, frame = receive_frame(wire)
        seen.add((frame[6:12].hex(":"), vlan))
    assert {each for each in seen if each[0] in MACS.values()} == wanted
    qorch_host.down(text)
