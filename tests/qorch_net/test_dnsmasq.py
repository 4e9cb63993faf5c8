"""dnsmasq's files and leases, without running it."""

from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_net.dnsmasq import ActiveLease, find_leases, find_program, make_files, pick_user
from qorch_net.errors import NetError


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
        "dhcp-range=192.168.133.100,192.168.133.199,255.255.255.0,1h",
        "dhcp-lease-max=101",
        "dhcp-hostsfile=/run/q/lan/dhcp-hosts",
        "dhcp-leasefile=/run/q/lan/leases",
        "dhcp-option=option:router,192.168.133.1",
        "dhcp-option=option:dns-server,192.168.133.1",
        "dhcp-authoritative",
        "no-ping",
        "dhcp-option=option:mtu,1400",
    ]


def test_without_dhcp_there_is_dns_only(tools):
    """No range, no DHCP."""
    files = make_files(tools.make_plan(dhcp=None), Path("/run/q/lan"), "root")
    assert b"dhcp-range" not in files["dnsmasq.conf"]
    assert files["hosts"]


def test_leases_are_read(tmp_path):
    """Leases with and without name and end are read; DHCPv6 and broken lines are left out."""
    (tmp_path / "lan").mkdir()
    (tmp_path / "lan" / "leases").write_text(
        "1700000000 52:54:00:00:00:01 192.168.133.150 web 01:52:54:00:00:00:01\n"
        "0 06-52:54:00:00:00:02 192.168.133.151 * *\n"
        "duid 00:01:00:01\n"
        "1700000000 1 fd00::1 web 00:01\n"
        "17000"
    )
    assert find_leases(tmp_path, "lan") == (
        ActiveLease(
            mac="52:54:00:00:00:01",
            ip=IPv4Address("192.168.133.150"),
            name="web",
            expires=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        ),
        ActiveLease(
            mac="52:54:00:00:00:02", ip=IPv4Address("192.168.133.151"), name=None, expires=None
        ),
    )
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
