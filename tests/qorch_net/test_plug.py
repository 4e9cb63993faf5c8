"""Taps with queues, limits and port settings, macvtaps, and taps of others."""

import json
import os
import select
import socket
import struct
import time
from pathlib import Path

import attrs
import pytest

from qorch_net.errors import NetError
from qorch_net.plan import MacvtapMode, Rate, TapPlan
from qorch_net.probe import find_owned
from qorch_net.shaping import make_redirect, make_token_bucket
from qorch_net.tap import (
    open_tap,
    remove_orphan_taps,
    remove_tap,
    remove_taps_of,
    replug_taps,
)

pytestmark = pytest.mark.live

MAC = "52:54:00:00:00:01"
HEADER = bytes(10)  # struct virtio_net_hdr: no offloads


def make_tap(lab, **changes):
    """Plan a tap on br0."""
    values = {"name": "qtest1-web", "owner": lab.owner, "label": "vm/web/nic0", "bridge": "br0"}
    return TapPlan(**{**values, "mac": MAC, **changes})


def make_macvtap(lab, **changes):
    """Plan a macvtap on eth0."""
    values = {"bridge": None, "uplink": "eth0", "macvtap": MacvtapMode.BRIDGE}
    return make_tap(lab, **{**values, **changes})


@pytest.fixture
def bridge(lab, tools):
    """A bridge br0 with nobody's mark."""
    tools.run("ip", "link", "add", "br0", "up", "type", "bridge")
    yield "br0"
    tools.run("ip", "link", "del", "br0")


@pytest.fixture
def card(lab, tools):
    """A card eth0, and what is behind it."""
    world = lab.add_namespace("eth0", inner="wan")
    with lab.inside(world):
        tools.run("ip", "addr", "add", "10.9.0.1/24", "dev", "wan")
    return world


def show(tools, name):
    """What ip says about an interface."""
    return json.loads(tools.run("ip", "-j", "-d", "link", "show", name))[0]


def make_frame(size=1400):
    """A frame to everybody, from the guest."""
    ether = b"\xff" * 6 + bytes.fromhex(MAC.replace(":", "")) + b"\x88\xb5"  # local experiments
    return ether + bytes(size)


def open_listener(name):
    """A socket that sees the frames of an interface."""
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    listener.bind((name, 0))
    listener.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    return listener


def test_each_queue_has_a_descriptor(lab, tools, bridge):
    """As many as asked for, all of one interface."""
    with open_tap(make_tap(lab, queues=4)) as tap:
        assert len(set(tap.queues)) == 4
        assert show(tools, "qtest1-web")["linkinfo"]["info_data"]["numqueues"] == 4
        assert tap.vhosts == ()


def test_port_is_set_as_asked(lab, tools, bridge):
    """Learning and flooding off, isolated; the cable unplugged."""
    plan = make_tap(lab, learning=False, flood=False, isolated=True, up=False, mtu=9000)
    with open_tap(plan):
        link = show(tools, "qtest1-web")
        port = link["linkinfo"]["info_slave_data"]
        assert (port["learning"], port["flood"], port["isolated"]) == (False, False, True)
        assert "UP" not in link["flags"]
        assert link["mtu"] == 9000
    with open_tap(attrs.evolve(plan, name="qtest1-b", learning=True, flood=True, isolated=False)):
        port = show(tools, "qtest1-b")["linkinfo"]["info_slave_data"]
        assert (port["learning"], port["flood"], port["isolated"]) == (True, True, False)


def test_tap_is_as_wide_as_its_bridge(lab, tools, bridge):
    """Unless it says otherwise; the bridge stays as it is."""
    tools.run("ip", "link", "set", bridge, "mtu", "9000")
    with open_tap(make_tap(lab)), open_tap(make_tap(lab, name="qtest1-b", mtu=1400)):
        assert show(tools, "qtest1-web")["mtu"] == 9000
        assert show(tools, "qtest1-b")["mtu"] == 1400
        assert show(tools, bridge)["mtu"] == 9000


def test_tap_without_a_bridge_is_plugged_in_by_others(lab, tools):
    """It is marked and up, and no more."""
    with open_tap(make_tap(lab, bridge=None)):
        link = show(tools, "qtest1-web")
        assert "master" not in link
        assert link["ifalias"] == f"qorch:{lab.owner}:vm/web/nic0"
        assert "UP" in link["flags"]


def test_tap_of_somebody_else_stays_as_it_is(lab, tools):
    """A persistent tap is opened, neither marked, plugged in nor removed."""
    plan = make_tap(lab, name="theirs", bridge=None, persistent=True)
    tools.run("ip", "tuntap", "add", "theirs", "mode", "tap", "vnet_hdr")
    before = lab.look()
    with open_tap(plan):
        assert "ifalias" not in show(tools, "theirs")
    assert lab.look() == before
    tools.run("ip", "link", "del", "theirs")


def test_tap_in_a_vlan_of_a_bridge_without_any_is_refused(lab, tools, bridge):
    """It would be among everybody else; nothing is left."""
    for vlans in ({"vlan": 10}, {"trunk": (10, 20)}):
        with pytest.raises(NetError, match="does not know VLANs"), open_tap(make_tap(lab, **vlans)):
            pass
    assert find_owned(lab.owner).links == ()


@pytest.mark.parametrize("mode", MacvtapMode)
def test_macvtap_speaks_on_the_uplink(lab, tools, card, mode):
    """Frames pass in both directions; it lasts until it is removed; a second one."""
    own, second = (
        show(tools, "eth0")["address"],
        make_macvtap(lab, macvtap=mode, name="m2", mac=None),
    )
    plan = make_macvtap(lab, macvtap=mode)
    with lab.inside(card):
        world = open_listener("wan")
    with open_tap(plan) as tap:
        (queue,) = tap.queues
        link = show(tools, plan.name)
        # The uplink gives all that comes to the one in mode passthru, whatever MAC it is for.
        assert link["address"] == (own if mode is MacvtapMode.PASSTHRU else MAC)
        assert link["linkinfo"]["info_data"]["mode"] == mode.value
        os.write(queue, HEADER + make_frame(100))
        assert world.recv(2000) == make_frame(100)
        world.send(make_frame(200)[:6] + b"\x02" + bytes(5) + make_frame(200)[12:])
        frames = iter(lambda: os.read(queue, 2000), b"")
        assert any(frame[len(HEADER) + 12 :].startswith(b"\x88\xb5") for frame in frames)
        second = attrs.evolve(second, label="vm/web/nic1")
        if mode is MacvtapMode.PASSTHRU:
            with pytest.raises(NetError, match="cannot make macvtap m2 on eth0"), open_tap(second):
                pass
        else:
            with open_tap(second):
                remove_tap(second)
    world.close()
    assert [x.name for x in find_owned(lab.owner).lasting] == [plan.name]
    assert find_owned(lab.owner).networks == frozenset()
    remove_tap(plan)
    remove_tap(plan)
    assert find_owned(lab.owner).links == ()
    assert show(tools, "eth0")["address"] == own


def test_macvtap_has_queues(lab, tools, card):
    """Each opening of its device is one."""
    plan = make_macvtap(lab, queues=2)
    with open_tap(plan) as tap:
        assert len(tap.queues) == 2
    remove_tap(plan)


def test_macvtap_is_opened_without_a_node_in_dev(lab, tools, card, monkeypatch):
    """Where nobody made /dev/tapN, or somebody else's has that name, a node of ours does."""
    monkeypatch.setattr("qorch_net.macvtap._DEV", Path(lab.run_dir))
    monkeypatch.setattr("qorch_net.netlink.messages.pick_index", lambda: 4711)
    with open_tap(make_macvtap(lab)):
        assert list(lab.run_dir.iterdir()) == []
    remove_tap(make_macvtap(lab))


def test_macvtap_of_a_killed_process_is_replaced(lab, tools, card):
    """The next start finds it by its mark; a stranger of that name is not touched."""

    def hold(report):
        with open_tap(make_macvtap(lab, rate_in=Rate(rate=1000))):
            report("open")

    assert lab.kill_at("open", hold)
    assert len(find_owned(lab.owner).lasting) == 2
    with open_tap(make_macvtap(lab)):
        assert len(find_owned(lab.owner).lasting) == 1
    remove_tap(make_macvtap(lab))
    tools.run("ip", "link", "add", "qtest1-web", "type", "bridge")
    before = lab.look()
    with pytest.raises(NetError, match="File exists"), open_tap(make_macvtap(lab)):
        pass
    assert lab.look() == before
    tools.run("ip", "link", "del", "qtest1-web")


def test_missing_uplink_of_a_macvtap_is_refused(lab):
    """By name."""
    with pytest.raises(NetError, match="there is no uplink eth0"), open_tap(make_macvtap(lab)):
        pass


def test_orphans_of_taps_are_removed(lab, tools, card, bridge):
    """What lasts goes, unless its machine still runs; what others made stays."""
    tools.run("ip", "link", "add", "ifb7", "type", "ifb")
    gone = make_tap(lab, rate_out=Rate(rate=1000))
    kept = make_macvtap(lab, name="qtest1-db", label="vm/db/nic0", mac="52:54:00:00:00:02")
    with open_tap(gone), open_tap(kept):
        pass
    assert remove_orphan_taps(lab.owner, keep={"vm/db/nic0"}) == ("vm/web/nic0",)
    assert [x.name for x in find_owned(lab.owner).lasting] == ["qtest1-db"]
    remove_taps_of(lab.owner, {"vm/web/nic0"})
    steps = []
    assert remove_orphan_taps(lab.owner, keep=(), report=steps.append) == ("vm/db/nic0",)
    assert steps == ["remove macvtap qtest1-db"]
    tools.run("ip", "link", "del", "ifb7")


def measure(send, receiver, count):
    """Seconds until `count` frames have come through, with more sent than can."""
    start = time.monotonic()
    got = 0
    while got < count:
        send()
        if select.select([receiver], [], [], 0.002)[0]:
            got += is_ours(receiver)
    return time.monotonic() - start


def is_ours(receiver):
    """Whether the next frame is one of the test's."""
    data = receiver.recv(4096) if isinstance(receiver, socket.socket) else os.read(receiver, 4096)
    return b"\x88\xb5" in data[: len(HEADER) + 14]


@pytest.mark.parametrize("kind", ["tap", "macvtap"])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_rates_bite_in_their_direction(lab, tools, bridge, card, kind, direction):
    """A quarter of the rate takes some four times as long; the other direction is free."""
    make = make_tap if kind == "tap" else make_macvtap
    if kind == "tap":
        tools.run("ip", "link", "set", "eth0", "master", "br0")
    seconds = {}
    for rate in (100_000, 400_000):
        limit = Rate(rate=rate, burst=3000)
        for way in ("in", "out"):
            plan = make(lab, **{f"rate_{direction}": limit})
            seconds[way, rate] = send_through(lab, card, plan, way)
    other = "out" if direction == "in" else "in"
    assert 2 < seconds[direction, 100_000] / seconds[direction, 400_000] < 8
    assert seconds[other, 100_000] < seconds[direction, 100_000] / 2
    assert find_owned(lab.owner).links == ()


def send_through(lab, card, plan, way):
    """Seconds for frames through a tap, in the guest's direction `in` or `out`."""
    with lab.inside(card):
        world = open_listener("wan")
    with open_tap(plan) as tap, world:
        (queue,) = tap.queues
        os.set_blocking(queue, False)
        frame = make_frame()
        if way == "out":
            seconds = measure(lambda: os.write(queue, HEADER + frame), world, 40)
        else:
            own = frame[:6] + b"\x02" + bytes(5) + frame[12:]
            seconds = measure(lambda: world.send(own), queue, 40)
    remove_tap(plan)
    wait_gone(plan.name)
    return seconds


def wait_gone(name):
    """Wait until the kernel has removed a tap."""
    deadline = time.monotonic() + 60
    while Path("/proc/thread-self/net/dev").read_text().find(f"{name}:") >= 0:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("rate", "attributes"),
    [
        (Rate(rate=125_000), {1, 4, 6}),
        (Rate(rate=10 << 30, burst=1 << 20), {1, 4, 6}),
        (Rate(rate=1000, burst=10, peak=2000), {1, 4, 5, 6, 7}),
    ],
)
def test_limits_are_told_in_full_width(rate, attributes):
    """Rates of more than 32 bits, bursts and peaks; the lengths add up."""
    options, found = make_token_bucket(rate), {}
    while options:
        length, kind = struct.unpack_from("=HH", options)
        found[kind] = options[4:length]
        options = options[-(-length // 4) * 4 :]
    assert found.keys() == attributes
    assert struct.unpack("=Q", found[4]) == (rate.rate,)
    assert len(found[1]) == 36
    assert len(make_redirect(7)) % 4 == 0


def test_tap_is_plugged_in_again(lab, tools, bridge):
    """A bridge that somebody removed and that was made anew gets its taps back, as they were."""
    plan = make_tap(lab, isolated=True, learning=False)
    stranger = make_tap(lab, name="qtest2-web", label="vm/web/nic1", bridge="br1")
    with open_tap(plan):
        tools.run("ip", "link", "del", bridge)
        tools.run("ip", "link", "add", bridge, "up", "type", "bridge")
        replug_taps([plan, stranger])
        port = show(tools, plan.name)
        replug_taps([plan])
    assert port["master"] == bridge
    flags = port["linkinfo"]["info_slave_data"]
    assert (flags["isolated"], flags["learning"]) == (True, False)
