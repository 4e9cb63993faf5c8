"""Networks on a real kernel: up, down, failures and kills at every step, nothing left."""

import json
import os
import random
import select
import signal
import subprocess
import threading
import time
from ipaddress import IPv4Network
from itertools import product
from pathlib import Path

import attrs
import pytest

from qorch_net import dnsmasq
from qorch_net.errors import NetError
from qorch_net.netlink.nft import find_ruleset
from qorch_net.network import (
    ENSURE_STEPS,
    REMOVE_STEPS,
    apply_rules,
    ensure_network,
    remove_network,
    remove_orphans,
)
from qorch_net.plan import Mode
from qorch_net.probe import find_host, find_owned

pytestmark = pytest.mark.live
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
CHANGE_STEPS = ("rules", "bridge", "files", "dnsmasq")


class Failure(Exception):  # noqa: N818 - what a test raises
    """What goes wrong in a test."""


def fail_at(step):
    """Make a report that raises at a step."""

    def report(name):
        if name == step:
            raise Failure(step)

    return report


def test_up_and_down_leave_nothing(lab, tools):
    """A network comes up as planned and goes without a trace (the fixture compares)."""
    plan, steps = lab.make_plan(), []
    lab.ensure(plan, report=steps.append)
    assert tuple(steps) == ENSURE_STEPS
    link = json.loads(tools.run("ip", "-j", "-d", "addr", "show", plan.bridge))[0]
    assert link["ifalias"] == f"qorch:{lab.owner}:network/lan restore-ip-forward"
    assert link["address"] == plan.mac
    assert [a["local"] for a in link["addr_info"]] == ["192.168.133.1"]
    assert (link["linkinfo"]["info_data"]["stp_state"]) == 0
    assert (link["linkinfo"]["info_data"]["forward_delay"]) == 0
    assert FORWARDING.read_text() == "1\n"
    steps.clear()
    lab.remove(report=steps.append)
    assert tuple(steps) == REMOVE_STEPS


def test_nothing_is_done_twice(lab, tools):
    """A second `ensure` and a second `remove` find nothing to do and change nothing."""
    lab.ensure(lab.make_plan())
    lab.ensure(lab.make_plan("dmz", 134))
    state, steps = lab.look(), []
    lab.ensure(lab.make_plan(), report=steps.append)
    lab.ensure(lab.make_plan("dmz", 134), report=steps.append)
    assert steps == []
    assert lab.look() == state
    lab.remove()
    lab.remove("dmz")
    lab.remove("dmz", report=steps.append)
    assert steps == []


def test_failure_at_a_step_undoes_all(lab, tools):
    """Whatever step fails, the host is as it was before."""
    before = lab.look()
    for step in ENSURE_STEPS:
        with pytest.raises(Failure, match=step):
            lab.ensure(lab.make_plan(), report=fail_at(step))
        assert lab.look() == before, step


def test_failure_of_a_change_puts_the_old_network_back(lab, tools):
    """What existed before the failed call stays as it was: address, rules, dnsmasq's files."""
    lab.ensure(lab.make_plan("dmz", 134))
    lab.ensure(lab.make_plan())
    before = lab.look()
    plan = attrs.evolve(lab.make_plan(subnet=135), mtu=1400)
    for step in CHANGE_STEPS:
        with pytest.raises(Failure, match=step):
            lab.ensure(plan, report=fail_at(step))
        assert lab.look() == before, step
    lab.remove()
    lab.remove("dmz")


def test_dnsmasq_that_fails_puts_the_old_one_back(lab, tools, tmp_path):
    """If dnsmasq dies of its new configuration, its own words are shown and the old one runs."""
    broken = tmp_path / "dnsmasq"
    broken.write_text(
        '#!/bin/sh\n! grep domain=other ${1#*=} && exec /usr/sbin/dnsmasq "$@"\n'
        "echo 'dnsmasq: I do not like that' >&2\nexit 5\n"
    )
    broken.chmod(0o755)
    lab.ensure(lab.make_plan())
    before = lab.look()
    plan = lab.make_plan(domain="other")
    with pytest.raises(NetError, match="I do not like that"):
        lab.ensure(plan, dnsmasq=broken)
    assert tools.resolve("web.lan", "192.168.133.1") == "192.168.133.150"
    assert {**lab.look(), "processes": None} == {**before, "processes": None}
    lab.remove()


def test_kill_9_on_the_way_up(lab, tools):
    """After a SIGKILL at any step of `ensure` both `ensure` and `remove` work."""
    plan, clean = lab.make_plan(), lab.look()
    for step, retry in product(ENSURE_STEPS, ("ensure", "remove")):
        assert lab.kill_at(step, lambda report: lab.ensure(plan, report=report))
        if retry == "ensure":
            lab.ensure(plan)
            assert tools.resolve("web.lan", "192.168.133.1") == "192.168.133.150", step
        lab.remove()
        assert lab.look() == clean, (step, retry)


def test_kill_9_on_the_way_down(lab, tools):
    """After a SIGKILL at any step of `remove` both `ensure` and `remove` work."""
    plan, clean = lab.make_plan(), lab.look()
    for step, retry in product(REMOVE_STEPS, ("ensure", "remove")):
        lab.ensure(plan)
        assert lab.kill_at(step, lambda report: lab.remove(report=report))
        if retry == "ensure":
            lab.ensure(plan)
            assert tools.resolve("web.lan", "192.168.133.1") == "192.168.133.150", step
        lab.remove()
        assert lab.look() == clean, (step, retry)


def test_kill_9_in_a_change(lab, tools):
    """After a SIGKILL in the middle of a change the next `ensure` completes it."""
    plans = [lab.make_plan(), lab.make_plan(subnet=135)]
    lab.ensure(plans[0])
    for number, step in enumerate(CHANGE_STEPS, 1):
        changed = plans[number % 2]
        assert lab.kill_at(step, lambda report, plan=changed: lab.ensure(plan, report=report))
        lab.ensure(changed)
        assert tools.resolve("web.lan", str(changed.gateway.ip)) == str(changed.leases[0].ip), step
    lab.remove()


def test_kill_9_at_random_instants(lab, tools):
    """Killed at any instant of up and down, the retry works and nothing is left."""
    plan, clean = lab.make_plan(), lab.look()
    instants = random.Random(133)  # noqa: S311
    for round_ in range(12):
        child = os.fork()
        if not child:
            lab.ensure(plan)
            lab.remove()
            os._exit(0)
        time.sleep(instants.uniform(0, 0.08))  # the random instant itself
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if round_ % 2:
            lab.ensure(plan)
            assert lab.look()["addresses"] == ["127.0.0.1", "192.168.133.1", "::1"]
        lab.remove()
        assert lab.look() == clean


def test_drift_is_corrected(lab, tools):
    """What somebody changed by hand is put right, step by step, and nothing else is touched."""
    plan = lab.make_plan()
    lab.ensure(plan)
    state = lab.look()
    drifts = {
        "bridge": [
            f"ip addr del 192.168.133.1/24 dev {plan.bridge}",
            f"ip addr add 10.9.9.9/24 dev {plan.bridge}",
            f"ip link set {plan.bridge} down",
            f"ip link set {plan.bridge} address 02:00:00:00:00:99",
            f"ip link set {plan.bridge} type bridge stp_state 1",
            f"ip link set {plan.bridge} alias ''",
        ],
        "rules": [
            f"nft flush table inet qorch-{lab.owner}",
            f"nft delete table inet qorch-{lab.owner}",
        ],
        "forwarding": ["echo 0 >/proc/sys/net/ipv4/ip_forward"],
    }
    for step, commands in drifts.items():
        for command in commands:
            tools.run("sh", "-c", command)
            assert lab.look() != state, command
            steps = []
            lab.ensure(plan, report=steps.append)
            assert step in steps, command
            if step == "bridge" or "flush" in command:
                assert lab.look() == state, command
            state = lab.look()
    lab.remove()


def test_changed_leases_reload_dnsmasq(lab, tools):
    """New leases reach the running dnsmasq by SIGHUP: same pid, no break."""
    lab.ensure(lab.make_plan())
    pid, steps = dnsmasq.find_dnsmasq(lab.owner), []
    leases = (tools.make_lease(2, "192.168.133.151", "db"),)
    lab.ensure(lab.make_plan(leases=leases), report=steps.append)
    assert steps == ["files", "dnsmasq"]
    assert dnsmasq.find_dnsmasq(lab.owner) == pid
    deadline = time.monotonic() + 10
    while tools.resolve("db.lan", "192.168.133.1") is None:
        assert time.monotonic() < deadline
    assert tools.resolve("db.lan", "192.168.133.1") == "192.168.133.151"
    assert tools.resolve("web.lan", "192.168.133.1") is None
    lab.remove()


def test_changed_configuration_restarts_dnsmasq(lab, tools):
    """Another domain needs another dnsmasq."""
    lab.ensure(lab.make_plan())
    pid = dnsmasq.find_dnsmasq(lab.owner)["lan"]
    lab.ensure(lab.make_plan(domain="home"))
    assert dnsmasq.find_dnsmasq(lab.owner)["lan"] != pid
    assert tools.resolve("web.home", "192.168.133.1") == "192.168.133.150"
    lab.remove()


def test_dnsmasq_that_died_is_started_again(lab, tools):
    """A killed dnsmasq is noticed by the next `ensure`, and found by its mark only."""
    lab.ensure(lab.make_plan())
    pid = dnsmasq.find_dnsmasq(lab.owner)["lan"]
    process = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait(process)
    assert dnsmasq.find_dnsmasq(lab.owner) == {}
    steps = []
    (lab.run_dir / "lan" / "pid").write_text("1")
    lab.ensure(lab.make_plan(), report=steps.append)
    assert steps == ["dnsmasq"]
    lab.remove()


def wait(process):
    """Wait until a process has ended."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    assert poll.poll(10_000)
    os.close(process)


def test_address_that_is_just_being_given_up_is_no_failure(lab, tools, tmp_path):
    """A dnsmasq that finds the address in use is tried a second time: the holder was ending."""
    program = tmp_path / "dnsmasq"
    program.write_text(
        f'#!/bin/sh\nmkdir {tmp_path}/tried && exit 2\nexec /usr/sbin/dnsmasq "$@"\n'
    )
    program.chmod(0o755)
    lab.ensure(lab.make_plan(), dnsmasq=program)
    assert tools.resolve("web.lan", "192.168.133.1") == "192.168.133.150"
    lab.remove()


def test_two_networks_share_a_table(lab, tools):
    """One network's coming and going leaves the rules of the other as they are."""
    lab.ensure(lab.make_plan())
    alone = lab.look()["rules"]
    lab.ensure(lab.make_plan("dmz", 134))
    assert "192.168.134.0/24" in lab.look()["rules"]
    lab.remove("dmz")
    assert lab.look()["rules"] == alone
    assert FORWARDING.read_text() == "1\n"
    lab.remove()


def test_rules_flushed_by_others_are_put_back(lab, tools):
    """`apply_rules` makes the table hold exactly these networks, and goes without any."""
    plans = [lab.make_plan(), lab.make_plan("dmz", 134)]
    for plan in plans:
        lab.ensure(plan)
    rules = lab.look()["rules"]
    tools.run("nft", "flush", "table", "inet", f"qorch-{lab.owner}")
    apply_rules(lab.owner, plans)
    assert sorted(lab.look()["rules"].splitlines()) == sorted(rules.splitlines())
    apply_rules(lab.owner, plans[:1])
    assert find_ruleset(lab.owner).ours.table.networks == {"lan"}
    lab.remove()
    lab.remove("dmz")


def test_forwarding_that_was_on_stays_on(lab, tools):
    """Forwarding is switched off only by who switched it on."""
    FORWARDING.write_text("1")
    steps = []
    lab.ensure(lab.make_plan(), report=steps.append)
    lab.remove(report=steps.append)
    assert "forwarding" not in steps
    assert FORWARDING.read_text() == "1\n"
    FORWARDING.write_text("0")


def test_forwarding_is_put_back_after_a_flush(lab, tools):
    """Nobody was there to see it: that forwarding was off stands on the bridges, too."""
    lan, dmz = lab.make_plan(), lab.make_plan("dmz", 134)
    for order in ("lan", "dmz"), ("dmz", "lan"):
        for again in ((), (lan, dmz)):
            steps = []
            lab.ensure(lan)
            lab.ensure(dmz)
            tools.run("nft", "flush", "ruleset")
            for plan in again:
                lab.ensure(plan, report=steps.append)
            assert steps == ["rules"] * len(again)
            for name in order:
                assert FORWARDING.read_text() == "1\n"
                lab.remove(name)
            assert FORWARDING.read_text() == "0\n"


@pytest.mark.parametrize(
    "chain",
    [
        "ip docker forward { type filter hook forward priority 0 ; }",
        "ip nat out { type nat hook postrouting priority 100 ; }",
    ],
)
def test_forwarding_stays_for_another_router(lab, tools, chain):
    """If somebody else routes by now (Docker, libvirt), forwarding stays on."""
    lab.ensure(lab.make_plan())
    family, table, rest = chain.split(" ", 2)
    tools.run("nft", f"add table {family} {table}")
    tools.run("nft", f"add chain {family} {table} {rest}")
    lab.remove()
    assert FORWARDING.read_text() == "1\n"
    tools.run("nft", f"delete table {family} {table}")
    FORWARDING.write_text("0")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_last_of_two_owners_switches_forwarding_off(lab, tools, order):
    """Two owners in one namespace: whoever leaves last restores, whoever came first."""
    owners = (lab.owner, lab.owner[::-1])
    for number, owner in enumerate(owners):
        ensure_elsewhere(lab, lab.make_plan(subnet=133 + number, owner=owner))
    for left, index in zip((1, 0), order, strict=True):
        remove_elsewhere(lab, owners[index])
        assert FORWARDING.read_text() == f"{left}\n"
        assert len(dnsmasq.find_dnsmasq(owners[order[1]])) == left


def test_forwarding_goes_with_the_owner_that_alone_needs_it(lab, tools):
    """Another one whose network stays on the host has no part in it."""
    other = lab.owner[::-1]
    ensure_elsewhere(lab, lab.make_plan(mode=Mode.ISOLATED, owner=other))
    ensure_elsewhere(lab, lab.make_plan(subnet=134))
    assert FORWARDING.read_text() == "1\n"
    remove_elsewhere(lab, lab.owner)
    assert FORWARDING.read_text() == "0\n"
    remove_elsewhere(lab, other)


def ensure_elsewhere(lab, plan):
    """Bring a network up in a run directory of its owner."""
    directory = lab.run_dir / plan.owner
    directory.mkdir()
    ensure_network(plan, run_dir=directory)


def remove_elsewhere(lab, owner):
    """Remove the network and the run directory of an owner."""
    remove_network("lan", owner=owner, run_dir=lab.run_dir / owner)
    (lab.run_dir / owner).rmdir()


def test_orphans_are_removed_and_the_rest_kept(lab, tools):
    """What belongs to no kept network goes, found by marks; kept networks and strangers stay."""
    lab.ensure(lab.make_plan())
    kept = lab.look()
    lab.ensure(lab.make_plan("dmz", 134))
    half = lab.make_plan("half", 135)
    assert lab.kill_at("dnsmasq", lambda report: lab.ensure(half, report=report))
    tools.run("ip", "link", "add", "stranger", "type", "bridge")
    assert find_owned(lab.owner).networks == {"lan", "dmz", "half"}
    assert remove_orphans(lab.owner, keep={"lan"}, run_dir=lab.run_dir) == ("dmz", "half")
    tools.run("ip", "link", "del", "stranger")
    assert lab.look() == kept
    assert remove_orphans(lab.owner, keep=(), run_dir=lab.run_dir) == ("lan",)
    assert remove_orphans(lab.owner, keep=(), run_dir=lab.run_dir) == ()


def test_mark_of_a_stranger_is_not_believed(lab, tools):
    """A process of another user that claims our mark is not ours: neither counted nor killed."""
    stranger = subprocess.Popen(
        ["sleep", "60"], env={"QORCH_OWNER": f"{lab.owner}:network/lan"}, user=4711
    )
    lab.ensure(lab.make_plan())
    assert dnsmasq.find_dnsmasq(lab.owner)["lan"] != stranger.pid
    lab.remove()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_thread_works_in_its_own_namespace(lab, tools):
    """Called in a thread (trio.to_thread), everything happens in that thread's namespace."""
    before, inside = lab.look(), []

    def work():
        tools.unshare(0x40000000)  # CLONE_NEWNET
        lab.ensure(lab.make_plan())
        inside.append((find_host().forwarding, find_owned(lab.owner).networks))
        inside.append(dnsmasq.find_dnsmasq(lab.owner).keys())
        assert FORWARDING.read_text() == "1\n"
        lab.remove()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(True, {"lan"}), {"lan"}]
    assert lab.look() == before


def test_dnsmasq_of_a_lost_namespace_is_replaced(lab, tools):
    """A dnsmasq that still runs in another namespace is not taken for this one's."""
    with lab.inside_new() as namespace:
        lab.ensure(lab.make_plan())
    assert dnsmasq.find_dnsmasq(lab.owner) == {}
    lab.ensure(lab.make_plan())
    assert tools.resolve("web.lan", "192.168.133.1") == "192.168.133.150"
    with lab.inside(namespace):
        assert lab.find_processes() == []
    lab.remove()


def test_host_is_seen_as_it_is(lab, tools):
    """`find_host` shows links with marks and masters, addresses, routes and forwarding."""
    plan = lab.make_plan(dhcp=None, leases=())
    lab.ensure(plan)
    lab.add_namespace("guest")
    tools.run("ip", "link", "set", "guest", "master", plan.bridge)
    host = find_host()
    bridge = host.find_link(plan.bridge)
    assert (bridge.kind, bridge.mark, bridge.up) == ("bridge", plan.mark, True)
    assert host.find_link("guest").master == plan.bridge
    assert host.forwarding
    assert host.find_use(plan.subnet) == f"address 192.168.133.1/24 of interface {plan.bridge}"
    assert host.find_use(IPv4Network("10.0.0.0/8")) is None
    lab.remove()
