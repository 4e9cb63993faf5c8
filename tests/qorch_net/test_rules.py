"""Rules as data: what they say, and how they become bytes."""

import attrs

from qorch_net.expressions import make_expressions
from qorch_net.rules import (
    Chain,
    KernelRule,
    Rule,
    Table,
    Verdict,
    make_rules,
    make_table_name,
)


def test_rules_of_a_nat_network(tools):
    """Only answers pass towards the guests; only what leaves the subnet is masqueraded."""
    rules = make_rules(tools.make_plan(bridge="br"))
    assert [f"{rule.chain}: {rule}" for rule in rules] == [
        'input: iifname "br" meta nfproto ipv6 drop',
        'forward: oifname "br" ct state established,related accept',
        'forward: iifname "br" oifname "br" accept',
        'forward: oifname "br" drop',
        (
            "postrouting: meta nfproto ipv4 ip saddr 192.168.133.0/24 ip daddr != 192.168.133.0/24"
            " ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255/32 masquerade"
        ),
    ]


def test_every_rule_names_its_own_bridge(tools):
    """No rule of one network can decide about another's packets."""
    for rule in make_rules(tools.make_plan(bridge="br")):
        assert "br" in {rule.iifname, rule.oifname} or rule.saddr


def test_comment_changes_with_the_rule(tools):
    """A rule with another content has another comment, so that comparing comments is enough."""
    rules = make_rules(tools.make_plan())
    comments = {rule.comment for rule in (*rules, *make_rules(tools.make_plan(subnet=134)))}
    assert len(comments) == len(rules) + 1
    assert all(comment.startswith("lan:") for comment in comments)


def test_table_replaces_one_network_and_keeps_the_others(tools):
    """The rules of other networks stay byte for byte; strangers' rules in our table do not."""
    other = KernelRule(chain="forward", comment="dmz:12345678", expressions=b"opaque")
    stranger = KernelRule(chain="forward", comment="", expressions=b"?")
    rules = make_rules(tools.make_plan())
    table = Table(rules=(other, stranger)).replace("lan", rules)
    assert table.rules == (other, *rules)
    assert table.networks == {"dmz", "lan"}
    assert table.replace("lan", ()).rules == (other,)


def test_tables_compare_by_what_they_do(tools):
    """The order of networks means nothing; order within one, chains and the duty to restore do."""
    lan, dmz = make_rules(tools.make_plan()), make_rules(tools.make_plan("dmz", 134))
    table = Table(rules=(*lan, *dmz))
    assert table.is_like(Table(rules=(*dmz, *lan)))
    assert not table.is_like(Table(rules=(*lan[::-1], *dmz)))
    assert not table.is_like(attrs.evolve(table, restore_forwarding=True))
    assert not table.is_like(attrs.evolve(table, chains=frozenset({Chain(name="x")})))


def test_expressions_are_golden():
    """`oifname "br" drop` becomes meta, cmp and immediate, as nft sends them."""
    rule = Rule(network="lan", chain="forward", oifname="br", verdict=Verdict.DROP)
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
