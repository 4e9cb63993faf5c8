"""Changes of the packet filter: announced, and told apart by the table that they are about."""

import select
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_net.network import apply_rules
from qorch_net.watch import (
    LinkChanges,
    find_changes,
    find_link_changes,
    find_tables,
    note,
    open_link_watch,
    open_watch,
)


@given(st.binary())
def test_any_message_is_survived(data):
    """Garbage is about no table and no interface of ours, and ends."""
    find_tables(data)
    note(LinkChanges(), data)


def wait(watch):
    """Wait until something is announced."""
    assert select.select([watch], [], [], 10)[0]


def test_what_is_set_down_matters_where_it_is_ours():
    """Who sets their own card or bridge down means it."""
    changes = LinkChanges(down=frozenset({"one"}))
    assert changes.is_about({"one"}, set())
    assert not changes.is_about(set(), {"one"})
    assert LinkChanges(lost=frozenset({"one"})).is_about(set(), {"one"})
    assert LinkChanges(missed=True).is_about(set(), set())


@pytest.mark.live
def test_only_changes_of_our_tables_are_found(lab, tools):
    """A flush of all, of ours, a rule in ours: found. Somebody's own table: not. Nothing: not."""
    plan = lab.make_plan()
    with open_watch() as watch:
        assert not find_changes(watch, lab.owner)
        lab.ensure(plan)
        assert find_changes(watch, lab.owner)
        assert not find_changes(watch, lab.owner)
        tools.run("nft", "add", "table", "inet", "stranger")
        wait(watch)
        assert not find_changes(watch, lab.owner)
        for command in ("flush table inet {}", "delete table inet {}", "flush ruleset"):
            tools.run("nft", *command.format(f"qorch-{lab.owner}").split())
            wait(watch)
            assert find_changes(watch, lab.owner)
            repair = apply_rules(lab.owner, [plan], notes={"restore-ip-forward"})
            assert repair.done == ("rules",)
            assert find_changes(watch, lab.owner)
            assert apply_rules(lab.owner, [plan]).done == ()
            assert not find_changes(watch, lab.owner)
    lab.remove()


@pytest.mark.live
def test_flood_is_no_silence(lab, tools):
    """More announcements than the socket holds: taken as a change of ours."""
    with open_watch() as watch, open_link_watch() as links:
        for each in (watch, links):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's minimum
        for number in range(10):
            tools.run("nft", "add", "table", "inet", f"stranger{number}")
            tools.run("ip", "link", "set", "lo", "mtu", f"{9000 + number}")
        tools.run("ip", "link", "set", "lo", "mtu", "65536")
        tools.run("nft", "flush", "ruleset")
        assert find_changes(watch, lab.owner)
        assert find_link_changes(links).missed


@pytest.mark.live
def test_what_is_taken_away_is_found(lab, tools):
    """Bridges removed or set down, ports taken out, addresses: found, and new interfaces, too."""

    def find(*commands):
        for command in commands:
            tools.run("ip", *command.split())
        wait(watch)
        changes = find_link_changes(watch)
        assert not changes.missed
        return tuple(map(sorted, (changes.lost, changes.down, changes.made)))

    with open_link_watch() as watch:
        assert find("link add br0 type bridge", "addr add 10.1.0.1/24 dev br0") == (
            *([], ["br0"]),
            ["br0"],
        )
        assert find("link set br0 up") == ([], [], [])
        assert find("link add p0 type veth peer p1", "link set p0 master br0 up")[2] == ["p0", "p1"]
        assert find("link set p0 nomaster")[0] == ["p0"]
        assert find("addr del 10.1.0.1/24 dev br0")[0] == ["br0"]
        assert find("link set br0 down")[1] == ["br0"]
        assert find("link del br0", "link del p0")[0] == ["br0", "p0", "p1"]
        assert not find_link_changes(watch).is_about({"br0"}, {"p0"})
        plan = lab.make_plan()
        lab.ensure(plan)
        wait(watch)
        changes = find_link_changes(watch)
        assert not changes.is_about({plan.bridge}, set())
        assert changes.is_about(set(), {plan.bridge})
    lab.remove()
