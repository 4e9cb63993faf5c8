"""Others' firewalls: found in the kernel, told with the cure, and silent once that is applied."""

import shlex
import subprocess
from ipaddress import IPv6Interface

import pytest
from net_guests import connect, listen, plug, settle, uplink

from qorch_net.firewalls import find_blockers
from qorch_net.foreign import ForeignChain, Kind, make_blockers
from qorch_net.plan import Mode

NFT_FORWARD = """
table inet wall {
    chain through {
        type filter hook forward priority 10; policy drop;
        ct state established,related accept
    }
}
"""
REJECTING = """
table inet wall {
    chain through {
        type filter hook forward priority 10; policy accept;
        iifname "eth7" accept
        counter log prefix "no" reject with icmpx type admin-prohibited
    }
}
"""
HARMLESS = """
table inet wall {
    chain through {
        type filter hook forward priority 10; policy drop;
        counter accept
    }
    chain other { type filter hook forward priority 11; policy accept; tcp dport 22 drop; }
    chain unhooked { drop; }
}
table bridge wall { chain f { type filter hook forward priority 0; policy drop; }; }
"""
FIREWALLD = """
table inet firewalld {
    chain filter_FWD_trusted { accept; }
    chain filter_FORWARD {
        type filter hook forward priority 10; policy accept;
        iifname "eth7" jump filter_FWD_public
        reject with icmpx type admin-prohibited
    }
    chain filter_FWD_public { return; }
}
"""


def make_chain(kind, **changes):
    """A forward chain that drops."""
    values = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward"}
    return ForeignChain(kind=kind, why="policy drop", **{**values, **changes})


@pytest.mark.parametrize(
    ("chain", "cures"),
    [
        (
            make_chain(Kind.NFT, family="inet", table="wall", name="through"),
            (
                "nft 'insert rule inet wall through iifname \"br\" accept'",
                "nft 'insert rule inet wall through oifname \"br\" accept'",
            ),
        ),
        (
            make_chain(Kind.IPTABLES),
            ("iptables -I FORWARD -i br -j ACCEPT", "iptables -I FORWARD -o br -j ACCEPT"),
        ),
        (
            make_chain(Kind.LEGACY, name="INPUT", hook="input"),
            ("iptables-legacy -I INPUT -i br -j ACCEPT",),
        ),
        (
            make_chain(Kind.DOCKER),
            ("iptables -I DOCKER-USER -i br -j ACCEPT", "iptables -I DOCKER-USER -o br -j ACCEPT"),
        ),
        (
            make_chain(Kind.FIREWALLD, family="inet"),
            (
                "firewall-cmd --permanent --zone=trusted --add-interface=br",
                "firewall-cmd --reload",
            ),
        ),
        (make_chain(Kind.UFW), ("ufw route allow in on br", "ufw route allow out on br")),
        (make_chain(Kind.UFW, hook="input"), ("ufw allow in on br",)),
    ],
)
def test_cures(tools, chain, cures):
    """Each firewall is told in its own words."""
    (blocker,) = make_blockers(tools.make_plan(bridge="br"), (chain,), bridge_nf=False)
    assert blocker.cures == cures
    assert "on br" in str(blocker)


def test_only_what_concerns_a_network_is_told(tools):
    """IPv6 where there is some; forward where something is forwarded; bridged frames if seen."""
    six = make_chain(Kind.IPTABLES, family="ip6")
    four = make_chain(Kind.IPTABLES)
    nat = tools.make_plan(bridge="br")
    isolated = tools.make_plan(bridge="br", mode=Mode.ISOLATED)
    bridged = tools.make_plan(bridge="br", mode=Mode.BRIDGE, gateway=None, dhcp=None, leases=())

    def find(plan, *, bridge_nf=False):
        return [x.chain for x in make_blockers(plan, (four, six), bridge_nf=bridge_nf)]

    assert find(nat) == [four]
    assert find(tools.make_plan(bridge="br", gateway6=IPv6Interface("fd00::1/64"))) == [four, six]
    assert find(isolated) == find(bridged) == []
    assert find(isolated, bridge_nf=True) == find(bridged, bridge_nf=True) == [four]


def load(tools, lab, text):
    """Load rules in nft's syntax."""
    path = lab.run_dir.parent / "rules"
    path.write_text(text.replace("; }", "\n}\n"))
    tools.run("nft", "-f", str(path))


@pytest.mark.live
@pytest.mark.parametrize("rules", [NFT_FORWARD, REJECTING])
def test_cure_cures(lab, tools, rules):
    """A firewall of others stops the guests; it is found, and its cure lets them through."""
    plan = lab.make_plan()
    lab.ensure(plan)
    assert find_blockers([plan]) == ()
    load(tools, lab, rules)
    web = plug(lab, tools, plan, "web")
    settle(lab, tools, web, "192.168.133.150/24")
    with uplink(lab, tools) as server, listen(lab, server):
        with pytest.raises(OSError, match=r"timed out|unreachable|No route"):
            connect(lab, web, "10.99.0.2", seconds=0.5)
        (blocker,) = find_blockers([plan])
        assert str(blocker.chain).startswith("nftables: table inet wall, chain through")
        for cure in blocker.cures:
            tools.run(*shlex.split(cure))
        connect(lab, web, "10.99.0.2").close()
    assert find_blockers([plan]) == ()
    tools.run("nft", "delete", "table", "inet", "wall")
    lab.remove()


@pytest.mark.live
def test_harmless_rules_are_not_told(lab, tools):
    """Chains that let everything through in the end, and those of other hooks."""
    load(tools, lab, HARMLESS)
    assert find_blockers([lab.make_plan()]) == ()
    tools.run("nft", "flush", "ruleset")


@pytest.mark.live
def test_firewalld_is_recognised(lab, tools):
    """Its zone `trusted` lets a bridge through, another zone does not."""
    load(tools, lab, FIREWALLD)
    plan = lab.make_plan()
    (blocker,) = find_blockers([plan])
    assert (blocker.chain.kind, blocker.chain.why) == (Kind.FIREWALLD, "reject")
    for zone, left in (("public", 1), ("trusted", 0)):
        rule = f'insert rule inet firewalld filter_FORWARD iifname "{plan.bridge}"'
        tools.run("nft", f"{rule} jump filter_FWD_{zone}")
        assert len(find_blockers([plan])) == left
    tools.run("nft", "flush", "ruleset")


@pytest.mark.live
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("chain", ["FORWARD", "INPUT"])
def test_iptables_is_read(lab, tools, program, chain):
    """Both kinds of iptables: a policy that drops is found, and not any more after the cure."""
    plan = lab.make_plan()
    tools.run(program, "-P", chain, "DROP")
    tools.run(program, "-A", chain, "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    (blocker,) = find_blockers([plan])
    assert blocker.chain.name == chain
    for cure in blocker.cures:
        words = shlex.split(cure)
        assert words[0].endswith("legacy") == program.endswith("legacy")
        tools.run(program, *words[1:])
    assert find_blockers([plan]) == ()
    tools.run(program, "-P", chain, "ACCEPT")
    tools.run(program, "-F")
    assert find_blockers([plan]) == ()
    tools.run("nft", "flush", "ruleset")


@pytest.mark.live
def test_docker_is_recognised(lab, tools):
    """A table with DOCKER-USER: what it is told goes into that chain."""
    tools.run("iptables-nft", "-P", "FORWARD", "DROP")
    tools.run("iptables-nft", "-N", "DOCKER-USER")
    tools.run("iptables-nft", "-I", "FORWARD", "-j", "DOCKER-USER")
    plan = lab.make_plan()
    (blocker,) = find_blockers([plan])
    assert blocker.chain.kind is Kind.DOCKER
    for cure in blocker.cures:
        subprocess.run(["iptables-nft", *shlex.split(cure)[1:]], check=True)
    assert find_blockers([plan]) == ()
    tools.run("nft", "flush", "ruleset")
