"""Rules as data: what they say, and how they become bytes."""

from ipaddress import IPv4Address, IPv6Address, IPv6Interface

import attrs
import pytest

from qorch_net.expressions import make_expressions
from qorch_net.plan import Guard, Mode, PortForward, Transport
from qorch_net.rules import (
    Chain,
    KernelRule,
    Rule,
    Table,
    Verdict,
    find_guard,
    make_guards,
    make_link_local,
    make_rules,
    make_table_name,
)
from qorch_net.rules.match import oif


def show(plan):
    """A network's rules in nft's syntax, each behind its chain."""
    return [f"{rule.chain}: {rule}" for rule in make_rules(plan)]


def test_rules_of_a_nat_network(tools):
    """Only answers pass towards the guests; only what leaves our networks is masqueraded."""
    assert show(tools.make_plan(bridge="br")) == [
        'input: iifname "br" meta nfproto ipv6 drop',
        'forward: oifname "br" ct state established,related accept',
        'forward: iifname "br" oifname "br" accept',
        'forward: oifname "br" drop',
        'postrouting: oifname "br" accept',
        (
            "postrouting: meta nfproto ipv4 ip saddr 192.168.133.0/24 ip daddr != 192.168.133.0/24"
            " ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255/32 masquerade"
        ),
    ]


def test_rules_of_ipv6(tools):
    """NAT66 for an IPv6 subnet; a guest that plays the router is not heard."""
    plan = tools.make_plan(bridge="br", gateway6=IPv6Interface("fd00:133::1/64"))
    assert [rule for rule in show(plan) if "6" in rule and "ip saddr" not in rule] == [
        'input: iifname "br" meta l4proto icmpv6 icmpv6 type router_advertisement drop',
        'input: iifname "br" meta l4proto icmpv6 icmpv6 type redirect drop',
        (
            "postrouting: meta nfproto ipv6 ip6 saddr fd00:133::/64 ip6 daddr != fd00:133::/64"
            " ip6 daddr != ff00::/8 ip6 daddr != fe80::/10 masquerade"
        ),
    ]


def test_rules_of_a_routed_network(tools):
    """All passes and nothing is translated, whether to the world or to other networks."""
    assert show(tools.make_plan(bridge="br", mode=Mode.ROUTE)) == [
        'input: iifname "br" meta nfproto ipv6 drop',
        'postrouting: oifname "br" accept',
    ]


def test_rules_of_an_isolated_network(tools):
    """Nothing is forwarded but between its guests, and to what it may reach."""
    plan = tools.make_plan(bridge="br", mode=Mode.ISOLATED, reach=("dmz0",))
    assert [f"{rule.phase} {rule}" for rule in make_rules(plan) if rule.chain == "forward"] == [
        '0 oifname "br" ct state established,related accept',
        '0 iifname "br" ct state established,related accept',
        '0 iifname "br" oifname "dmz0" accept',
        '0 iifname "br" oifname "br" accept',
        '1 oifname "br" drop',
        '1 iifname "br" drop',
    ]


def test_isolated_guests_cannot_go_around_by_the_host(tools):
    """What one guest sends to another by way of the gateway is dropped in every mode."""
    for mode in (Mode.NAT, Mode.ROUTE, Mode.ISOLATED):
        plan = tools.make_plan(bridge="br", mode=mode, isolated_guests=True)
        assert 'forward: iifname "br" oifname "br" drop' in show(plan)


def test_forwarded_ports(tools):
    """Each port in prerouting and output; let through; hairpin and 127.0.0.1 by masquerading."""
    forwards = (
        PortForward(host_port=8080, port=80, name="web"),
        PortForward(
            host_port=5300,
            port=53,
            proto=Transport.UDP,
            address=IPv4Address("10.0.0.1"),
            ip=IPv4Address("192.168.133.7"),
        ),
        PortForward(host_port=1, port=1, name="nobody"),
    )
    shown = show(tools.make_plan(bridge="br", forwards=forwards))
    first = "meta nfproto ipv4 fib daddr type local meta l4proto tcp th dport 8080"
    second = "meta nfproto ipv4 ip daddr 10.0.0.1 meta l4proto udp th dport 5300"
    assert [rule for rule in shown if "dnat ip to" in rule] == [
        f"prerouting: {first} dnat ip to 192.168.133.150:80",
        f"output: {first} dnat ip to 192.168.133.150:80",
        f"prerouting: {second} dnat ip to 192.168.133.7:53",
        f"output: {second} dnat ip to 192.168.133.7:53",
    ]
    let_in = 'forward: oifname "br" meta nfproto ipv4 ip daddr {} ct status dnat accept'
    assert let_in.format("192.168.133.150") in shown
    assert let_in.format("192.168.133.7") in shown
    back = 'postrouting: oifname "br" meta nfproto ipv4 ip saddr {} ct status dnat masquerade'
    assert back.format("192.168.133.0/24") in shown
    assert back.format("127.0.0.0/8") in shown
    assert (
        'input: iifname "br" meta nfproto ipv4 ip daddr 127.0.0.0/8'
        " ct state != established,related drop"
    ) in shown


def test_bridged_networks_have_no_rules(tools):
    """Where the host is no router it filters nothing."""
    plan = tools.make_plan(mode=Mode.BRIDGE, uplink="eth0", gateway=None, dhcp=None, leases=())
    assert make_rules(plan) == ()


def test_every_rule_names_its_own_bridge(tools):
    """No rule of one network can decide about another's packets."""
    plan = tools.make_plan(bridge="br", gateway6=IPv6Interface("fd00:133::1/64"))
    for rule in make_rules(plan):
        words = str(rule)
        assert '"br"' in words or "saddr 192.168.133.0/24" in words or "fd00:133::" in words


def test_guard_of_a_tap(tools):
    """MAC, ARP, IPv4 and IPv6 of its own, no server's answers, and nothing else."""
    ips = (IPv4Address("192.168.133.150"), IPv6Address("fd00:133::5"))
    guard = Guard(tap="tap0", mac="52:54:00:00:00:01", ips=ips)
    gateway6 = IPv6Interface("fd00:133::1/64")
    plan = tools.make_plan(guards=(guard,), gateway6=gateway6, ra=True)
    (chain,) = make_guards(plan)
    assert chain.name == f"guard/lan/tap0/{chain.digest}"
    assert find_guard(chain.name) == chain
    own = "fd00:133::5", "fe80::/64", "fd00:133::/64"
    gateway = "fd00:133::1", str(make_link_local(plan.mac))
    advertised = "meta protocol ip6 meta l4proto icmpv6 icmpv6 type neighbour_advertisement"
    assert [str(rule) for rule in chain.rules] == [
        "ether saddr != 52:54:00:00:00:01 drop",
        (
            "meta protocol != ip meta protocol != arp"
            " meta protocol != ip6 meta protocol != rarp drop"
        ),
        "meta protocol arp arp saddr ether != 52:54:00:00:00:01 drop",
        "meta protocol ip meta l4proto udp th sport 67 drop",
        "meta protocol ip6 meta l4proto udp th sport 547 drop",
        "meta protocol ip6 meta l4proto icmpv6 icmpv6 type router_advertisement drop",
        "meta protocol ip6 meta l4proto icmpv6 icmpv6 type redirect drop",
        "meta protocol arp arp saddr ip != 192.168.133.150 arp saddr ip != 0.0.0.0 drop",
        "meta protocol ip ip saddr 0.0.0.0 meta l4proto udp th dport 67 accept",
        "meta protocol ip ip saddr != 192.168.133.150 drop",
        *(
            rule
            for ip in gateway
            for rule in (
                f"{advertised} icmpv6 taddr {ip} drop",
                f"meta protocol ip6 ip6 saddr {ip} drop",
            )
        ),
        advertised + "".join(f" icmpv6 taddr != {ip}" for ip in own) + " drop",
        *(
            f"meta protocol ip6 ip6 saddr :: meta l4proto icmpv6 icmpv6 type {kind} accept"
            for kind in ("neighbour_solicitation", "router_solicitation", "mld2_report")
        ),
        "meta protocol ip6" + "".join(f" ip6 saddr != {ip}" for ip in own) + " drop",
    ]


def test_guard_without_router_advertisements(tools):
    """Nobody tells guests to make themselves addresses: planned and own ones pass."""
    guard = Guard(tap="tap0", mac="52:54:00:00:00:01", ips=(IPv6Address("fd00:133::5"),))
    gateway6 = IPv6Interface("fd00:133::1/64")
    (chain,) = make_guards(tools.make_plan(guards=(guard,), gateway6=gateway6))
    own = "ip6 saddr != fd00:133::5 ip6 saddr != fe80::5054:ff:fe00:1"
    assert str(chain.rules[-1]) == f"meta protocol ip6 {own} drop"


def test_guard_without_addresses(tools):
    """Whose addresses are not planned may choose them, but is no DHCP server or router."""
    guard = Guard(tap="tap0", mac="52:54:00:00:00:01")
    (chain,) = make_guards(tools.make_plan(guards=(guard,)))
    assert not any("ip saddr" in str(r) or "ip6 saddr" in str(r) for r in chain.rules)
    assert any("sport 67" in str(rule) for rule in chain.rules)
    other = attrs.evolve(guard, ips=(IPv4Address("192.168.133.9"),))
    (changed,) = make_guards(tools.make_plan(guards=(other,)))
    assert changed.digest != chain.digest


def test_names_of_strangers_chains_are_none_of_ours():
    """A chain that somebody put into our table is no guard."""
    assert find_guard("prerouting") is None
    assert find_guard("guard/x") is None


def test_comment_changes_with_the_rule(tools):
    """A rule with another content has another comment, so that comparing comments is enough."""
    rules = make_rules(tools.make_plan())
    comments = {rule.comment for rule in (*rules, *make_rules(tools.make_plan(subnet=134)))}
    assert len(comments) == len(rules) + 1
    assert all(comment.startswith("lan:") for comment in comments)


def test_what_lets_in_comes_before_what_keeps_out(tools):
    """Whichever network came up first: no network's drop ends the chain before an accept."""
    lan = make_rules(tools.make_plan(mode=Mode.ISOLATED))
    dmz = make_rules(tools.make_plan("dmz", 134, reach=("br",)))
    for one, other in ((lan, dmz), (dmz, lan)):
        table = Table().replace(one[0].subject, one).replace(other[0].subject, other)
        verdicts = [rule.action for rule in table.rules if rule.chain == "forward"]
        assert verdicts == sorted(verdicts, key=lambda verdict: verdict.value)


@pytest.mark.parametrize("comment", ["", "lan", "lan:x:1", "some words: 1: 2:", "a:b"])
def test_comments_of_strangers_say_nothing(comment):
    """A rule that somebody else put into our table belongs to no network."""
    rule = KernelRule(chain="forward", comment=comment, expressions=b"")
    assert (rule.subject, rule.phase) == ("", 0)


def test_table_replaces_one_network_and_keeps_the_others(tools):
    """The rules of other networks stay byte for byte; strangers' rules in our table do not."""
    other = KernelRule(chain="forward", comment="dmz:0:12345678", expressions=b"opaque")
    stranger = KernelRule(chain="forward", comment="", expressions=b"?")
    rules = make_rules(tools.make_plan())
    table = Table(rules=(other, stranger)).replace("lan", rules)
    assert table.rules[0] is other
    assert set(table.rules) == {other, *rules}
    assert table.networks == {"dmz", "lan"}
    assert table.replace("lan", ()).rules == (other,)


def test_tables_compare_by_what_they_do(tools):
    """The order of networks means nothing; order within one, chains and the duty to restore do."""
    lan, dmz = make_rules(tools.make_plan()), make_rules(tools.make_plan("dmz", 134))
    table = Table(rules=(*lan, *dmz))
    assert table.is_like(Table(rules=(*dmz, *lan)))
    assert not table.is_like(Table(rules=(*lan[::-1], *dmz)))
    assert not table.is_like(attrs.evolve(table, notes=frozenset({"restore-ip-forward"})))
    assert not table.is_like(attrs.evolve(table, chains=frozenset({Chain(name="x")})))


def test_expressions_are_golden():
    """`oifname "br" drop` becomes meta, cmp and immediate, as nft sends them."""
    rule = Rule(subject="lan", chain="forward", matches=(oif("br"),), action=Verdict.DROP)
    assert make_expressions(rule).hex() == (
        "24000100"
        "090001006d65746100000000"  # meta
        "14000200"
        "0800010000000001"
        "0800020000000007"  # register 1, oifname
        "38000100"
        "08000100636d7000"  # cmp
        "2c000200"
        "0800010000000001"
        "0800020000000000"  # register 1, equal
        "18000300"
        "14000100"
        "62720000000000000000000000000000"  # br
        "30000100"
        "0e000100696d6d6564696174650000"
        "00"  # immediate
        "1c000200"
        "0800010000000000"
        "10000200"
        "0c000200"
        "0800010000000000"  # drop
    )


def test_table_name_carries_the_owner():
    """Two owners never share a table."""
    assert make_table_name("0123abcd") == "qorch-0123abcd"
