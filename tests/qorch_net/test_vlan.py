"""VLANs on an uplink: sub-interfaces with bridges, and VLAN-aware bridges. In the test VM."""

import json
import os
import select
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from qorch_net.errors import NetError
from qorch_net.network import (
    ENSURE_TRUNK_STEPS,
    ENSURE_VLAN_STEPS,
    REMOVE_VLAN_STEPS,
    remove_orphans,
)
from qorch_net.plan import MacvtapMode, Mode, TapPlan, make_interface_name
from qorch_net.probe import find_owned
from qorch_net.tap import open_tap, remove_tap

pytestmark = pytest.mark.testbed

NO_PART = {"gateway": None, "dhcp": None, "leases": ()}
EXPERIMENT = b"\x88\xb5"  # an EtherType for local experiments
HEADER = bytes(10)  # struct virtio_net_hdr: no offloads
MACS = {"a": b"\x52\x54\0\0\0\x0a", "b": b"\x52\x54\0\0\0\x0b", "c": b"\x52\x54\0\0\0\x0c"}


def make_vlan(lab, name, vlan, **changes):
    """Plan a VLAN of eth0."""
    values = {"mode": Mode.VLAN, "uplink": "eth0", "vlan": vlan, "bridge": f"brvlan{vlan}"}
    return lab.make_plan(name, **{**values, **NO_PART, **changes})


def make_wire(lab, **changes):
    """Plan a VLAN-aware bridge around eth0."""
    values = {"mode": Mode.BRIDGE, "uplink": "eth0", "bridge": "br0", "vlan_filtering": True}
    return lab.make_plan("wire", **{**values, **NO_PART, **changes})


def make_tap(lab, name, bridge, **changes):
    """Plan the tap of a guest."""
    label = f"vm/{name}/nic0"
    return TapPlan(
        name=make_interface_name(lab.owner, label, name),
        owner=lab.owner,
        label=label,
        bridge=bridge,
        mac=MACS[name].hex(":"),
        **changes,
    )


class Wire:
    """Sees the frames of the tests at the far end of the uplink, with their tags."""

    def __init__(self):
        """Listen."""
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("wan", 0))
        self.socket.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: where the tag is
        self.socket.settimeout(30)

    def read(self):
        """The next frame of a test: VLAN (0: none), and what it says."""
        while True:
            frame, extra, _, _ = self.socket.recvmsg(4096, 100)
            status, _, _, _, _, tag, protocol = struct.unpack("=IIIHHHH", extra[0][2][:20])
            if frame[12:14] == EXPERIMENT:
                if status & 16:  # TP_STATUS_VLAN_VALID
                    assert protocol == 0x8100
                    return tag, frame[14:].rstrip(b"\0")
                return 0, frame[14:].rstrip(b"\0")

    def send(self, word, vlan=None):
        """Send a frame to everybody."""
        tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
        self.socket.send(b"\xff" * 6 + MACS["c"] + tag + EXPERIMENT + word)


def say(tap, name, word, vlan=None):
    """Let a guest send a frame to everybody."""
    tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
    os.write(tap.queues[0], HEADER + b"\xff" * 6 + MACS[name] + tag + EXPERIMENT + word)


def hear(tap):
    """The next frame of a test that a guest gets: VLAN (0: none), and what it says."""
    poll = select.poll()
    poll.register(tap.queues[0], select.POLLIN)
    while True:
        assert poll.poll(60_000), "nothing was heard"
        frame = os.read(tap.queues[0], 4096)[len(HEADER) :]
        tag = 0
        if frame[12:14] == b"\x81\0":
            tag, frame = struct.unpack_from("!H", frame, 14)[0], frame[4:]
        if frame[12:14] == EXPERIMENT:
            return tag, frame[14:].rstrip(b"\0")


@pytest.fixture
def wire(lab):
    """An uplink eth0, and what is seen at its far end."""
    with lab.inside(lab.add_namespace("eth0", inner="wan")):
        seen = Wire()
    yield seen
    seen.socket.close()


@pytest.fixture
def taps():
    """Taps that are open until the test ends."""
    with ExitStack() as stack:
        yield stack


def open_guests(lab, taps, **plans):
    """Open the taps of guests."""
    return {name: taps.enter_context(open_tap(plan)) for name, plan in plans.items()}


def test_vlans_of_one_uplink_are_tagged_and_apart(lab, tools, wire, taps):
    """Frames carry the tag of their network; no guest hears another VLAN."""
    steps = []
    for name, vlan in (("ten", 10), ("twenty", 20)):
        lab.ensure(make_vlan(lab, name, vlan), report=steps.append)
    assert tuple(steps) == ENSURE_VLAN_STEPS * 2
    link = json.loads(tools.run("ip", "-j", "-d", "link", "show", "eth0.10"))[0]
    assert link["linkinfo"]["info_data"]["id"] == 10
    assert (link["master"], link["ifalias"]) == ("brvlan10", f"qorch:{lab.owner}:network/ten")
    bridges = {"a": "brvlan10", "b": "brvlan20", "c": "brvlan10"}
    guests = open_guests(lab, taps, **{x: make_tap(lab, x, bridges[x]) for x in bridges})
    say(guests["a"], "a", b"ten")
    assert wire.read() == (10, b"ten")
    assert hear(guests["c"]) == (0, b"ten")
    say(guests["b"], "b", b"twenty")
    assert wire.read() == (20, b"twenty")
    wire.send(b"to ten", 10)
    wire.send(b"to twenty", 20)
    assert hear(guests["b"]) == (0, b"to twenty")
    assert hear(guests["a"]) == (0, b"to ten")
    assert find_owned(lab.owner).networks == {"ten", "twenty"}
    taps.close()
    lab.remove("ten", report=(steps := []).append)
    assert tuple(steps) == REMOVE_VLAN_STEPS
    lab.remove("twenty")


def test_aware_bridge_keeps_vlans_apart(lab, tools, wire, taps):
    """Access ports and a trunk on one bridge: the tags are right on all sides."""
    plan, steps = make_wire(lab), []
    tools.run("ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")
    lab.ensure(plan, report=steps.append)
    assert [step for step in steps if step != "routes"] == [
        step for step in ENSURE_TRUNK_STEPS if step != "routes"
    ]
    lab.ensure(plan, report=(again := []).append)
    assert again == []
    guests = open_guests(
        lab,
        taps,
        a=make_tap(lab, "a", "br0", vlan=10),
        b=make_tap(lab, "b", "br0", vlan=20),
        c=make_tap(lab, "c", "br0", trunk=(10, 20), native=30),
    )
    say(guests["a"], "a", b"ten")
    assert wire.read() == (10, b"ten")
    assert hear(guests["c"]) == (10, b"ten")
    say(guests["b"], "b", b"twenty")
    assert wire.read() == (20, b"twenty")
    assert hear(guests["c"]) == (20, b"twenty")
    say(guests["c"], "c", b"both", 20)
    assert wire.read() == (20, b"both")
    assert hear(guests["b"]) == (0, b"both")
    say(guests["c"], "c", b"native")
    assert wire.read() == (30, b"native")
    say(guests["c"], "c", b"no member", 40)
    wire.send(b"untagged")
    wire.send(b"to ten", 10)
    assert hear(guests["a"]) == (0, b"to ten")
    say(guests["a"], "a", b"last")
    assert wire.read() == (10, b"last")
    assert "10.99.0.2" in tools.run("ip", "addr", "show", "dev", "br0")
    taps.close()
    lab.remove("wire")
    assert "10.99.0.2" in tools.run("ip", "addr", "show", "dev", "eth0")


def test_trunk_of_the_uplink_can_be_narrow(lab, tools, wire, taps):
    """VLANs that it does not list stay inside; those that are missing are added again."""
    plan = make_wire(lab, trunk=(10, 11, 20))
    lab.ensure(plan)
    guests = open_guests(
        lab,
        taps,
        a=make_tap(lab, "a", "br0", vlan=30),
        b=make_tap(lab, "b", "br0", vlan=20),
    )
    say(guests["a"], "a", b"inside")
    say(guests["b"], "b", b"twenty")
    assert wire.read() == (20, b"twenty")
    tools.run("bridge", "vlan", "del", "dev", "eth0", "vid", "11")
    lab.ensure(plan, report=(steps := []).append)
    assert steps == ["trunk"]
    taps.close()
    lab.remove("wire")


def test_bridge_of_others_keeps_its_flag(lab, tools, wire, taps):
    """It is refused while it knows no VLANs, and used as it is when it does."""
    plan = make_wire(lab, uplink=None)
    tools.run("ip", "link", "add", "br0", "up", "type", "bridge")
    before = lab.look()
    with pytest.raises(NetError, match="br0 does not know VLANs") as caught:
        lab.ensure(plan)
    assert "vlan_filtering 1" in caught.value.hint
    with pytest.raises(NetError, match="does not know VLANs"):
        open_guests(lab, taps, a=make_tap(lab, "a", "br0", vlan=10))
    assert lab.look() == before
    tools.run("ip", "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
    lab.ensure(plan, report=(steps := []).append)
    assert steps == []
    open_guests(lab, taps, a=make_tap(lab, "a", "br0", vlan=10))
    shown = json.loads(tools.run("bridge", "-j", "vlan", "show"))
    (port,) = [x["vlans"] for x in shown if x["ifname"].endswith("-a")]
    assert port == [{"vlan": 10, "flags": ["PVID", "Egress Untagged"]}]
    taps.close()
    lab.remove("wire")
    tools.run("ip", "link", "del", "br0")


class Failure(Exception):  # noqa: N818 - what a test raises
    """What goes wrong in a test."""


@pytest.mark.parametrize("step", ENSURE_VLAN_STEPS)
def test_failure_undoes_all(lab, wire, step):
    """Whatever step fails, the host is as it was."""
    before = lab.look()

    def report(name):
        if name == step:
            raise Failure(step)

    with pytest.raises(Failure):
        lab.ensure(make_vlan(lab, "ten", 10), report=report)
    assert lab.look() == before


@pytest.mark.parametrize("step", ["vlan", "bridge"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_kill_9(lab, wire, step, way):
    """Killed at any step, up or down, the next call completes or undoes it."""
    before, plan = lab.look(), make_vlan(lab, "ten", 10)
    if way == "down":
        lab.ensure(plan)
    act = lab.ensure if way == "up" else lambda _plan, report: lab.remove("ten", report=report)
    assert lab.kill_at(step, lambda report: act(plan, report=report))
    lab.ensure(plan)
    lab.ensure(plan, report=(steps := []).append)
    assert steps == []
    assert lab.kill_at(step, lambda report: lab.remove("ten", report=report))
    assert remove_orphans(lab.owner, keep=(), run_dir=lab.run_dir) == ("ten",)
    assert lab.look() == before


@pytest.mark.parametrize("step", ["uplink", "trunk"])
def test_aware_bridge_that_is_not_finished(lab, tools, wire, step):
    """A kill before or after the card is a port: the next call completes it."""
    before = lab.look()
    assert lab.kill_at(step, lambda report: lab.ensure(make_wire(lab), report=report))
    lab.ensure(make_wire(lab))
    lab.remove("wire")
    assert lab.look() == before


def test_sub_interface_of_others_is_left_alone(lab, tools, wire):
    """The error says how to use it; what is drifted of ours is put right."""
    tools.run("ip", "link", "add", "link", "eth0", "name", "v10", "type", "vlan", "id", "10")
    before = lab.look()
    with pytest.raises(NetError, match="v10 is in the way") as caught:
        lab.ensure(make_vlan(lab, "ten", 10))
    assert 'uplink = "v10"' in caught.value.hint
    assert lab.look() == before
    lab.ensure(make_wire(lab, uplink="v10", vlan_filtering=False))
    lab.remove("wire")
    tools.run("ip", "link", "del", "v10")
    lab.ensure(make_vlan(lab, "ten", 10))
    state = lab.look()
    for change in (["nomaster"], ["down"], ["alias", ""]):
        tools.run("ip", "link", "set", "eth0.10", *change)
        if change[0] == "alias":
            with pytest.raises(NetError, match=r"eth0\.10 is in the way"):
                lab.ensure(make_vlan(lab, "ten", 10))
            tools.run("ip", "link", "del", "eth0.10")
        lab.ensure(make_vlan(lab, "ten", 10))
        assert lab.look() == state
    lab.remove("ten")


def test_macvtap_in_a_vlan(lab, wire, taps):
    """Without a bridge: eth0 → eth0.10 ← macvtap."""
    plan = make_vlan(lab, "ten", 10, mode=Mode.MACVTAP, bridge=None)
    lab.ensure(plan, report=(steps := []).append)
    assert steps == ["vlan"]
    tap = attrs.evolve(
        make_tap(lab, "a", None), uplink=plan.subinterface, macvtap=MacvtapMode.BRIDGE
    )
    guests = open_guests(lab, taps, a=tap)
    say(guests["a"], "a", b"ten")
    assert wire.read() == (10, b"ten")
    taps.close()
    remove_tap(tap)
    lab.remove("ten")


def test_vhost(lab, tools, taps):
    """Each queue has a vhost-net descriptor beside it."""
    guests = open_guests(lab, taps, a=make_tap(lab, "a", None, queues=2, vhost=True))
    assert len(guests["a"].vhosts) == 2
    opened = Path(f"/proc/self/fd/{guests['a'].vhosts[0]}").readlink()
    assert opened == Path("/dev/vhost-net")
