"""dnsmasq's files and leases, without running it."""

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Interface
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_net.dnsmasq import ActiveLease, find_leases, find_program, make_files, pick_user
from qorch_net.dnsmasq.options import find_bad_options
from qorch_net.errors import NetError
from qorch_net.plan import Dhcp6Range, DhcpOption, Lease, Mode


def test_configuration_is_golden(tools):
    """The configuration of a network, line by line."""
    files = make_files(tools.make_plan(bridge="br", mtu=1400), Path("/run/q/lan"), "nobody")
    assert files["hosts"] == b"192.168.133.150 web.lan web\n"
    assert files["dhcp-hosts"] == b"52:54:00:00:00:01,192.168.133.150,web\n"
    assert files["dnsmasq.conf"].decode().splitlines() == [
        "# qorch 0123abcd:network/lan",
        "interface=br",
        "except-interface=lo",
        "bind-dynamic",
        "user=nobody",
        "pid-file=/run/q/lan/pid",
        "no-hosts",
        "addn-hosts=/run/q/lan/hosts",
        "domain=lan",
        "local=/lan/",
        "domain-needed",
        "dhcp-lease-max=101",
        "dhcp-hostsfile=/run/q/lan/dhcp-hosts",
        "dhcp-leasefile=/run/q/lan/leases",
        "dhcp-authoritative",
        "dhcp-range=192.168.133.100,192.168.133.199,255.255.255.0,1h",
        "dhcp-option=option:router,192.168.133.1",
        "dhcp-option=option:dns-server,192.168.133.1",
        "no-ping",
        "dhcp-option=option:mtu,1400",
    ]


def test_without_dhcp_there_is_dns_only(tools):
    """No range, no DHCP."""
    files = make_files(tools.make_plan(dhcp=None), Path("/run/q/lan"), "root")
    assert b"dhcp-range" not in files["dnsmasq.conf"]
    assert files["hosts"]


def configure(plan):
    """The lines of a network's configuration."""
    return make_files(plan, Path("/run/q/lan"), "root")["dnsmasq.conf"].decode().splitlines()


def test_isolated_network_leads_nowhere(tools):
    """No router, no servers to ask, unless the document names some or it reaches a network."""
    plan = tools.make_plan(mode=Mode.ISOLATED)
    assert "dhcp-option=option:router" in configure(plan)
    assert "no-resolv" in configure(plan)
    reaching = attrs.evolve(plan, reach=("dmz0",), dns=(IPv4Address("10.9.9.9"),))
    assert "dhcp-option=option:router,192.168.133.1" in configure(reaching)
    start = configure(reaching).index("no-resolv")
    assert configure(reaching)[start + 1] == "server=10.9.9.9"


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"ra": True}, ["dhcp-range=fd00:133::,ra-stateless,ra-names,64,1h"]),
        (
            {
                "dhcp6": Dhcp6Range(
                    start=IPv6Address("fd00:133::9"), end=IPv6Address("fd00:133::99")
                )
            },
            ["dhcp-range=fd00:133::9,fd00:133::99,64,1h"],
        ),
        (
            {
                "ra": True,
                "dhcp6": Dhcp6Range(
                    start=IPv6Address("fd00:133::9"), end=IPv6Address("fd00:133::99")
                ),
                "mtu": 1400,
            },
            [
                "dhcp-range=fd00:133::9,fd00:133::99,slaac,64,1h",
                "ra-param=br,mtu:1400,600",
            ],
        ),
        (
            {"ra": True, "mode": Mode.ISOLATED},
            [
                "dhcp-range=fd00:133::,ra-stateless,ra-names,64,1h",
                "ra-param=br,600,0",
            ],
        ),
    ],
)
def test_ipv6_is_golden(tools, changes, lines):
    """Router advertisements always; addresses by the guest, by DHCPv6, or both."""
    gateway6 = IPv6Interface("fd00:133::1/64")
    found = configure(tools.make_plan(bridge="br", gateway6=gateway6, **changes))
    start = found.index("enable-ra")
    assert found[start + 1 :] == [*lines, "dhcp-option=option6:dns-server,[fd00:133::1]"]


def test_leases_have_both_addresses(tools):
    """A machine's IPv6 address is kept for it and its name leads to both."""
    ips = {"ip": IPv4Address("192.168.133.150"), "ip6": IPv6Address("fd00:133::5")}
    lease = Lease(mac="52:54:00:00:00:01", name="web", **ips)
    gateway6 = IPv6Interface("fd00:133::1/64")
    plan = tools.make_plan(leases=(lease,), gateway6=gateway6)
    files = make_files(plan, Path("/run/q/lan"), "root")
    assert files["hosts"] == b"192.168.133.150 web.lan web\nfd00:133::5 web.lan web\n"
    assert files["dhcp-hosts"] == b"52:54:00:00:00:01,192.168.133.150,[fd00:133::5],web\n"


def test_options_are_dnsmasqs_own(tools):
    """By name, by number, for DHCPv6."""
    options = tuple(
        DhcpOption(option=option, value="x") for option in ("ntp-server", "42", "option6:56")
    )
    assert configure(tools.make_plan(dhcp_options=options))[-3:] == [
        "dhcp-option=option:ntp-server,x",
        "dhcp-option=42,x",
        "dhcp-option=option6:56,x",
    ]


def test_options_that_dnsmasq_does_not_take_are_found():
    """Unknown names and values of another kind, each with what dnsmasq says of it."""
    options = [
        DhcpOption(option="ntp-server", value="10.0.0.1"),
        DhcpOption(option="ntp-sever", value="10.0.0.1"),
        DhcpOption(option="42", value="hello"),
        DhcpOption(option="option6:dns-server", value="[fd00::1]"),
        DhcpOption(option="option6:dns-server", value="10.1"),
    ]
    found = {(x.option, x.value): said for x, said in find_bad_options(options)}
    assert found == {
        ("ntp-sever", "10.0.0.1"): "bad dhcp-option",
        ("42", "hello"): "bad IP address",
        ("option6:dns-server", "10.1"): "bad IPv6 address",
    }
    assert not list(find_bad_options(options[:1]))
    with pytest.raises(NetError, match="is not installed"):
        list(find_bad_options(options, dnsmasq="no-such-dnsmasq"))


def test_leases_are_read(tmp_path):
    """Leases of both families, with and without name and end; broken lines are left out."""
    (tmp_path / "lan").mkdir()
    (tmp_path / "lan" / "leases").write_text(
        "1700000000 52:54:00:00:00:01 192.168.133.150 web 01:52:54:00:00:00:01\n"
        "0 06-52:54:00:00:00:02 192.168.133.151 * *\n"
        "duid 00:01:00:01\n"
        "0 1234 fd00::1 web 00:01:00:01:2c:01:02:03:52:54:00:00:00:01\n"
        "0 T1234 fd00::2 web 00:03:00:01:52:54:00:00:00:01\n"
        "0 1234 fd00::3 * 00:04:11:22\n"
        "17000"
    )
    first, second, *others = find_leases(tmp_path, "lan")
    assert first == ActiveLease(
        mac="52:54:00:00:00:01",
        ip=IPv4Address("192.168.133.150"),
        name="web",
        expires=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
    )
    assert second == ActiveLease(
        mac="52:54:00:00:00:02", ip=IPv4Address("192.168.133.151"), name=None, expires=None
    )
    assert [(str(x.ip), x.mac, x.name) for x in others] == [
        ("fd00::1", "52:54:00:00:00:01", "web"),
        ("fd00::2", "52:54:00:00:00:01", "web"),
        ("fd00::3", None, None),
    ]
    assert find_leases(tmp_path, "dmz") == ()


@given(content=st.binary())
def test_any_lease_file_is_survived(tmp_path_factory, content):
    """A lease file that is half written or garbage never raises."""
    directory = tmp_path_factory.mktemp("leases")
    (directory / "lan").mkdir()
    (directory / "lan" / "leases").write_bytes(content)
    find_leases(directory, "lan")


def test_missing_program_has_a_hint():
    """The hint names Debian's package."""
    with pytest.raises(NetError, match="nowhere is not installed") as caught:
        find_program("nowhere")
    assert caught.value.hint == "apt-get install dnsmasq-base"


def test_user_is_root_where_nobody_cannot_go(tmp_path):
    """Root's rights are dropped only where dnsmasq can still reach its files."""
    closed = tmp_path / "closed" / "lan"
    closed.parent.mkdir(mode=0o700)
    assert pick_user(closed) == "root"
