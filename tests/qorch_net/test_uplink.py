"""An uplink (a veth that plays the card) moves into a bridge and back: nothing of it is lost."""

import json
import os
import random
import signal
import socket
import subprocess
from itertools import product
from pathlib import Path

import attrs
import pytest

from qorch_net.errors import NetError
from qorch_net.network import (
    ENSURE_UPLINK_STEPS,
    REMOVE_UPLINK_STEPS,
    remove_orphans,
)
from qorch_net.plan import Mode
from qorch_net.probe import find_owned

pytestmark = pytest.mark.live

NO_PART = {"gateway": None, "dhcp": None, "leases": ()}
CARD = """
ip addr add 10.99.0.2/24 dev eth0
ip addr add 10.99.0.3/24 dev eth0 label eth0:web
ip addr add 10.98.0.1/24 dev eth0 valid_lft 5000 preferred_lft 4000
ip addr add 10.97.0.1/32 peer 10.97.0.2/32 dev eth0 scope link
ip addr add fd99::2/64 dev eth0 nodad
ip addr add fd98::2/64 dev eth0 nodad noprefixroute valid_lft 5000 preferred_lft 4000
ip route add default via 10.99.0.1 src 10.99.0.3 mtu 1400 proto dhcp
ip route add 172.16.0.0/12 via 10.99.0.1 metric 77
ip route add 172.16.0.0/12 via 10.98.0.9 metric 78 table 42
ip route add 172.20.0.0/16 nexthop via 10.99.0.1 weight 3 nexthop via 10.98.0.9
ip route add 172.21.0.0/24 dev eth0 scope link
ip route add 172.22.0.0/24 via 172.21.0.1
ip route add 172.23.0.0/24 via 192.0.2.1 dev eth0 onlink
ip -6 route add default via fd99::1 metric 50
ip -6 route add fd50::/32 via fd99::1 expires 4000
ip -6 route add fd51::/64 dev eth0
"""


def make_office(lab, **changes):
    """Plan a bridge br0 around eth0."""
    values = {"mode": Mode.BRIDGE, "bridge": "br0", "uplink": "eth0", **NO_PART, **changes}
    return lab.make_plan("office", **values)


def add_card(lab):
    """Plug in eth0, whose link-local address is there at once: to ask for it takes a second."""
    detection = Path("/proc/sys/net/ipv6/conf/default/accept_dad")
    detection.write_text("0")
    router = lab.add_namespace("eth0", inner="wan")
    detection.write_text("1")  # the bridge does ask
    wait_carrier()
    return router


@pytest.fixture
def world(lab, tools):
    """A namespace behind eth0: 10.99.0.1, where the default routes lead."""
    router = add_card(lab)
    with lab.inside(router):
        tools.run("sh", "-ec", "ip addr add 10.99.0.1/24 dev wan; ip addr add 10.98.0.9/24 dev wan")
        tools.run("ip", "addr", "add", "fd99::1/64", "dev", "wan", "nodad")
    tools.run("sh", "-ec", CARD)
    return router


def wait_carrier():
    """Wait until IPv6 has given eth0 its link-local address for good."""
    with subprocess.Popen(["ip", "monitor", "address"], stdout=subprocess.PIPE) as monitor:
        while "tentative" in (shown := show("-6", "addr")) or "fe80" not in shown:
            monitor.stdout.readline()
        monitor.terminate()


def show(*words):
    """What `ip` says about eth0."""
    return subprocess.run(
        ["ip", *words, "show", "dev", "eth0"], check=True, capture_output=True, text=True
    ).stdout


def settle(name):
    """Let IPv6 enter addresses into the local table: it does so a moment after they are there."""
    for _ in range(200):  # a card that is down has none
        (link,) = json.loads(ip("-j", "-6", "addr", "show", "dev", name)) or ({},)
        routes = json.loads(ip("-j", "-6", "route", "show", "table", "local", "dev", name))
        addresses = {address["local"] for address in link.get("addr_info", ())}
        if addresses <= {route["dst"] for route in routes}:
            return


def look(name="eth0"):
    """Addresses and routes of an interface, with what distinguishes them, in order."""
    settle(name)
    (link,) = json.loads(ip("-j", "addr", "show", "dev", name))
    addresses = [
        {
            **{key: a.get(key) for key in ("local", "prefixlen", "scope", "broadcast", "address")},
            "label": "LINK" if a.get("label") == name else a.get("label"),
            "forever": a["valid_life_time"] > 5000,
            "noprefixroute": a.get("noprefixroute"),
        }
        for a in link["addr_info"]
    ]
    routes = [
        {key: value for key, value in r.items() if key not in {"expires", "flags"}}
        | {"expires": "expires" in r, "onlink": "onlink" in r["flags"]}
        for family in ("-4", "-6")
        for r in json.loads(ip("-j", family, "route", "show", "table", "all"))
        if r.get("dev") == name or name in str(r.get("nexthops"))
    ]
    text = json.dumps(sorted(routes, key=str)).replace(f'"{name}"', '"LINK"')
    return sorted(addresses, key=str), json.loads(text), link["mtu"], link["address"]


def ip(*words):
    """Run ip."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def without_automatic(seen):
    """Without what every interface has by itself: multicast routes."""
    addresses, routes, mtu, mac = seen
    return addresses, [r for r in routes if r.get("dst") != "ff00::/8"], mtu, mac


class Talk:
    """Connections in both directions that must not break."""

    def __init__(self, lab, world):
        """Connect from the host to the world and the other way round."""
        with lab.inside(world):
            listener = socket.create_server(("10.99.0.1", 7))
        own = socket.create_server(("10.99.0.2", 7))
        self.pairs = [(socket.create_connection(("10.99.0.1", 7)), listener.accept()[0])]
        with lab.inside(world):
            peer = socket.create_connection(("10.99.0.2", 7))
        self.pairs.append((peer, own.accept()[0]))
        listener.close()
        own.close()

    def check(self, word=b"still here"):
        """Both can be spoken over in both directions."""
        for pair in self.pairs:
            for one, other in (pair, pair[::-1]):
                one.sendall(word)
                other.settimeout(60)
                assert other.recv(100) == word

    def close(self):
        """End them."""
        for pair in self.pairs:
            for end in pair:
                end.close()


@pytest.fixture
def talk(lab, world):
    """Connections across eth0."""
    connections = Talk(lab, world)
    connections.check()
    yield connections
    connections.close()


def test_all_that_the_card_had_is_on_the_bridge_and_comes_back(lab, world, talk):
    """Addresses with lifetimes, labels and scopes, routes of all tables, MTU and MAC."""
    before, steps = look(), []
    lab.ensure(make_office(lab), report=steps.append)
    assert tuple(steps) == ENSURE_UPLINK_STEPS
    talk.check()
    assert without_automatic(look("br0")) == without_automatic(before)
    assert look()[0] == []
    assert [r for r in look()[1] if r.get("dst") != "ff00::/8"] == []
    link = json.loads(ip("-j", "link", "show", "eth0"))[0]
    assert link["master"] == "br0"
    assert find_owned(lab.owner).networks == {"office"}
    steps.clear()
    lab.remove("office", report=steps.append)
    assert tuple(steps) == REMOVE_UPLINK_STEPS
    talk.check()
    assert look() == before


def test_nothing_is_done_twice(lab, world):
    """A second `ensure` finds an enslaved uplink as it shall be."""
    lab.ensure(make_office(lab))
    state, steps = lab.look(), []
    lab.ensure(make_office(lab), report=steps.append)
    assert (steps, lab.look()) == ([], state)
    lab.remove("office")
    lab.remove("office", report=steps.append)
    assert steps == []


def test_connections_survive_a_hundred_moves(lab, world, talk):
    """A hundred times up and down, and no connection is lost in either direction.

    Half of them on a host that takes packets only from where it would send the answer.
    """
    before, plan = look(), make_office(lab)
    for round_ in range(100):
        if round_ == 50:
            for name in ("all", "eth0"):
                Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("1")
        lab.ensure(plan)
        talk.check()
        strict = Path("/proc/sys/net/ipv4/conf/br0/rp_filter").read_text()
        assert strict == f"{int(round_ >= 50)}\n"
        lab.remove("office")
        talk.check()
    assert look() == before


def test_what_is_added_to_the_bridge_moves_to_the_card(lab, world):
    """An address that came while the bridge was up stays the host's."""
    lab.ensure(make_office(lab))
    ip("addr", "add", "10.96.0.1/24", "dev", "br0")
    ip("route", "add", "172.30.0.0/16", "via", "10.96.0.2")
    lab.remove("office")
    assert "10.96.0.1" in ip("addr", "show", "dev", "eth0")
    assert "172.30.0.0/16 via 10.96.0.2 dev eth0" in ip("route")


def test_what_comes_back_to_the_card_is_moved_again(lab, world):
    """A DHCP client that configures the card anew does not win: the next `ensure` moves it."""
    lab.ensure(make_office(lab))
    ip("addr", "add", "10.96.0.1/24", "dev", "eth0")
    steps = []
    lab.ensure(make_office(lab), report=steps.append)
    assert steps == ["addresses", "uplink"]
    assert "10.96.0.1" in ip("addr", "show", "dev", "br0")
    assert look()[0] == []
    lab.remove("office")


class Failure(Exception):  # noqa: N818 - what a test raises
    """What goes wrong in a test."""


def fail_at(step):
    """Make a report that raises at a step."""

    def report(name):
        if name == step:
            raise Failure(step)

    return report


def test_failure_on_the_way_up_undoes_all(lab, world, talk):
    """Whatever step fails, the host is as it was, and connected."""
    before, state = look(), lab.look()
    for step in ENSURE_UPLINK_STEPS:
        with pytest.raises(Failure, match=step):
            lab.ensure(make_office(lab), report=fail_at(step))
        assert look() == before, step
        assert lab.look() == state, step
        talk.check()


def test_failure_on_the_way_down_undoes_all(lab, world, talk):
    """The bridge goes on as it was, and the next `remove` works."""
    before = look()
    lab.ensure(make_office(lab))
    up, state = look("br0"), lab.look()
    for step in REMOVE_UPLINK_STEPS:
        with pytest.raises(Failure, match=step):
            lab.remove("office", report=fail_at(step))
        assert look("br0") == up, step
        assert lab.look() == state, step
        talk.check()
    lab.remove("office")
    assert look() == before


def test_kernel_that_refuses_the_last_step_changes_nothing(lab, world, talk):
    """A card that somebody takes before our eyes keeps all it had, or gets it back."""
    before = look()

    def take(step):
        if step == "uplink":
            ip("link", "add", "link", "eth0", "name", "mv0", "type", "macvtap")

    with pytest.raises(NetError, match="cannot make eth0 a port of br0"):
        lab.ensure(make_office(lab), report=take)
    ip("link", "del", "mv0")
    assert look() == before
    talk.check()


def test_kill_9_on_the_way_up(lab, world, talk):
    """Killed at any step, the host is connected after the next start, which completes or undoes."""
    before, plan = look(), make_office(lab)
    for step, retry in product(ENSURE_UPLINK_STEPS, ("ensure", "remove")):
        assert lab.kill_at(step, lambda report: lab.ensure(plan, report=report))
        if retry == "ensure":
            lab.ensure(plan)
            talk.check()
            assert without_automatic(look("br0")) == without_automatic(before), step
        lab.remove("office")
        talk.check()
        assert look() == before, (step, retry)


def test_kill_9_on_the_way_down(lab, world, talk):
    """The same for a `remove` that is killed."""
    before, plan = look(), make_office(lab)
    for step, retry in product(REMOVE_UPLINK_STEPS, ("ensure", "remove", "orphan")):
        lab.ensure(plan)
        assert lab.kill_at(step, lambda report: lab.remove("office", report=report))
        if retry == "ensure":
            lab.ensure(plan)
            talk.check()
            assert without_automatic(look("br0")) == without_automatic(before), step
        if retry == "orphan":
            found = remove_orphans(lab.owner, keep=(), run_dir=lab.run_dir)
            assert found == ("office",), step
        lab.remove("office")
        talk.check()
        assert look() == before, (step, retry)


def test_kill_9_at_random(lab, world, talk):
    """Killed at any instant of up and down, again and again: always connected, nothing left."""
    before, plan, dice = look(), make_office(lab), random.Random(4)  # noqa: S311
    for _ in range(8):
        for act in (lambda: lab.ensure(plan), lambda: lab.remove("office")):
            child = os.fork()
            if not child:
                try:
                    act()
                finally:
                    os._exit(0)
            with subprocess.Popen(["sleep", f"{dice.uniform(0, 0.03):.4f}"]) as pause:
                pause.wait()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if dice.random() < 0.5:
                lab.ensure(plan)
                talk.check()
        lab.remove("office")
        talk.check()
        assert look() == before


def test_card_that_was_down_is_down_again(lab, tools):
    """A card that nobody uses is set up for the bridge, and down afterwards; so is its MTU."""
    add_card(lab)
    ip("link", "set", "eth0", "down")
    before = look()
    lab.ensure(make_office(lab, mtu=9000))
    assert {look("br0")[2], look()[2]} == {9000}
    assert "UP" in json.loads(ip("-j", "link", "show", "eth0"))[0]["flags"]
    lab.remove("office")
    assert look() == before
    assert "UP" not in json.loads(ip("-j", "link", "show", "eth0"))[0]["flags"]


def test_card_that_was_pulled_out_is_not_missed(lab, tools):
    """Where the uplink is gone, so can be its bridge."""
    add_card(lab)
    lab.ensure(make_office(lab))
    ip("link", "del", "eth0")
    lab.remove("office")


def refuse(lab, plan, message):
    """Assert that a plan is refused with one clear error and a hint, the host unchanged."""
    before = lab.look()
    with pytest.raises(NetError, match=message) as caught:
        lab.ensure(plan)
    assert caught.value.hint
    assert lab.look() == before


def test_uplink_that_cannot_be_is_refused(lab, tools):
    """Missing, loopback, a bridge, in another bridge, below a macvtap: one clear error each."""
    refuse(lab, make_office(lab), "there is no interface eth0")
    refuse(lab, make_office(lab, uplink="lo"), "lo is the loopback interface")
    add_card(lab)
    ip("link", "add", "theirs", "type", "bridge")
    refuse(lab, make_office(lab, uplink="theirs"), "theirs is a bridge itself")
    ip("link", "set", "eth0", "master", "theirs")
    refuse(lab, make_office(lab), "eth0 is a port of theirs already")
    ip("link", "del", "theirs")
    ip("link", "add", "link", "eth0", "name", "mv0", "type", "macvtap")
    refuse(lab, make_office(lab), "the macvtap mv0 sits upon eth0")
    ip("link", "del", "mv0")


def test_nexthop_objects_are_not_moved(lab, world):
    """A route by one is named; nothing has changed."""
    ip("nexthop", "add", "id", "7", "via", "10.99.0.1", "dev", "eth0")
    ip("route", "add", "172.30.0.0/16", "nhid", "7")
    before = look()
    refuse(lab, make_office(lab), r"the route to 172\.30\.0\.0/16 over eth0 uses a nexthop object")
    assert look() == before


def test_foreign_bridge_is_used_as_it_is(lab, tools):
    """A bridge of others is neither made, changed nor removed."""
    plan = make_office(lab, uplink=None)
    refuse(lab, plan, "there is no bridge br0")
    add_card(lab)
    refuse(lab, attrs.evolve(plan, bridge="eth0"), "eth0 is no bridge")
    ip("link", "add", "br0", "type", "bridge")
    state, steps = lab.look(), []
    refuse(lab, attrs.evolve(plan, vlan_filtering=True), "br0 does not know VLANs")
    lab.ensure(plan, report=steps.append)
    lab.remove("office", report=steps.append)
    assert (steps, lab.look()) == ([], state)
    ip("link", "del", "br0")
