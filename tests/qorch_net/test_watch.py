"""Changes of the packet filter: announced, and told apart by the table that they are about."""

import select

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_net.network import apply_rules
from qorch_net.watch import find_changes, find_tables, open_watch


@given(st.binary())
def test_any_message_is_survived(data):
    """Garbage is about no table of ours, and ends."""
    find_tables(data)


def wait(watch):
    """Wait until something is announced."""
    assert select.select([watch], [], [], 10)[0]


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
    with open_watch() as watch:
        rules = "".join(f"add table inet stranger{number}\n" for number in range(6000))
        path = lab.run_dir.parent / "rules"
        path.write_text(rules)
        tools.run("nft", "-f", str(path))
        tools.run("nft", "flush", "ruleset")
        assert find_changes(watch, lab.owner)
