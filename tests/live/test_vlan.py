"""Machines on VLANs, in the test VM: what their network cards send, as the uplink has it."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from qorch.testing import Host
from qorch.testing.namespace import enter_namespace, open_namespace

pytestmark = pytest.mark.testbed

DOCUMENT = """
    [network.office10]
    mode = "vlan"
    uplink = "up10"
    vlan = 10
    bridge = "brvlan10"

    [network.office]
    mode = "bridge"
    uplink = "up20"
    vlan_filtering = true
    trunk = [10, 20]
"""
MACHINE = """
    [vm.vm{vlan}]
    memory = "64MiB"

    [[vm.vm{vlan}.disk]]
    path = "{disk}"

    [[vm.vm{vlan}.nic]]
    mac = "{mac}"
    {card}
"""
CARDS = {10: 'network = "office10"', 20: 'network = "office"\n    vlan = 20'}
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


@contextmanager
def open_wire(host: Host, name: str) -> Iterator[socket.socket]:
    """An uplink, and the far end of its cable."""
    with open_namespace() as far:
        host.run("ip", "link", "add", name, "type", "veth", "peer", "name", "far")
        host.run("ip", "link", "set", "far", "netns", f"/proc/{os.getpid()}/fd/{far}")
        host.run("ip", "link", "set", name, "up")
        with enter_namespace(far):  # a socket stays where it was made
            subprocess.run(["ip", "link", "set", "far", "up"], check=True)
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            end.bind(("far", ETH_P_ALL))
        end.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        end.settimeout(180)
        with end:
            yield end
        host.run("ip", "link", "del", name)


def find_tags(wire: socket.socket, wanted: str) -> set[tuple[str, int | None]]:
    """Which machine sent frames with which tags, until one of them has."""
    seen: set[tuple[str, int | None]] = set()
    while wanted not in {mac for mac, _ in seen}:  # they ask for an address, again and again
        tag, frame = receive_frame(wire)
        mac = frame[6:12].hex(":")
        if mac in MACS.values():
            seen.add((mac, tag))
    return seen


def test_frames_are_tagged(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """What a machine on a VLAN sends leaves by the uplink with that VLAN's tag, and no other.

    One is on a bridge of its own above a sub-interface, one on a bridge that knows VLANs.
    """
    text = DOCUMENT
    with ExitStack() as stack:
        wires = {vlan: stack.enter_context(open_wire(qorch_host, f"up{vlan}")) for vlan in MACS}
        for vlan, mac in MACS.items():
            disk = shutil.copy(bios / "disk.img", tmp_path / f"{vlan}.raw")
            text += MACHINE.format(vlan=vlan, disk=disk, mac=mac, card=CARDS[vlan])
        qorch_host.up(text, wait=None)
        for vlan, mac in MACS.items():
            assert find_tags(wires[vlan], mac) == {(mac, vlan)}
        qorch_host.down(text)
