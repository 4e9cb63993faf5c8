"""What a host does not allow: one clear error with a hint each, the host unchanged."""

import os
import socket
import subprocess
from ipaddress import IPv4Address, IPv4Interface

import attrs
import pytest

from qorch_net.errors import NetError
from qorch_net.netlink.links import open_links
from qorch_net.netlink.messages import make_simple, pick_index
from qorch_net.network import ensure_network, remove_network
from qorch_net.plan import DhcpOption, PortForward, Transport

pytestmark = pytest.mark.live


def refuse(lab, plan, message, **options):
    """Assert that a plan is refused with one clear error and a hint, the host unchanged."""
    before = lab.look()
    with pytest.raises(NetError, match=message) as caught:
        lab.ensure(plan, **options)
    assert caught.value.hint
    assert lab.look() == before
    return caught.value


def test_subnet_of_the_host_is_refused(lab, tools):
    """A subnet that an interface or a route uses: named, host unchanged."""
    lab.add_namespace("uplink")
    tools.run("ip", "addr", "add", "192.168.133.77/24", "dev", "uplink")
    refuse(lab, lab.make_plan(), "in use: address 192.168.133.77/24 of interface uplink")
    tools.run("ip", "addr", "del", "192.168.133.77/24", "dev", "uplink")
    tools.run("ip", "addr", "add", "10.0.0.1/24", "dev", "uplink")
    tools.run("ip", "route", "add", "192.168.128.0/20", "via", "10.0.0.2")
    refuse(lab, lab.make_plan(), r"in use: route 192.168.128.0/20 over uplink")


def test_taken_bridge_name_is_refused(lab, tools):
    """Somebody's interface with the bridge's name is not touched."""
    plan = lab.make_plan()
    tools.run("ip", "link", "add", plan.bridge, "type", "bridge")
    refuse(lab, plan, "is taken")
    tools.run("ip", "link", "del", plan.bridge)


def test_missing_dnsmasq_is_refused(lab, tools):
    """Without dnsmasq the hint says which package has it."""
    error = refuse(lab, lab.make_plan(), "is not installed", dnsmasq="dnsmasq-of-nowhere")
    assert error.hint == "apt-get install dnsmasq-base"


def test_missing_run_directory_is_refused(lab, tools, tmp_path):
    """The run directory is the caller's to make."""
    with pytest.raises(NetError, match="there is no directory"):
        ensure_network(lab.make_plan(), run_dir=tmp_path / "none")


def test_foreign_dnsmasq_on_the_address_is_refused(lab, tools):
    """A server that holds every address: dnsmasq's own words, a hint, all undone."""
    foreign = subprocess.Popen(
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--no-hosts"],
        stderr=subprocess.DEVNULL,
    )
    try:
        while not tools.run("ss", "-Hlnt"):
            assert foreign.poll() is None
        error = refuse(lab, lab.make_plan(), "Address already in use")
        assert f"dnsmasq (pid {foreign.pid}) on 0.0.0.0:53/" in error.hint
        assert "bind-interfaces" in error.hint
    finally:
        foreign.kill()
        foreign.wait()


@pytest.mark.parametrize("host", ["", "127.0.0.1", "10.99.0.1"])
def test_forwarded_port_that_is_taken_is_refused(lab, tools, host):
    """A port that somebody listens on, on any or one address: who does is named, nothing done."""
    lab.add_namespace("uplink")
    tools.run("ip", "addr", "add", "10.99.0.1/24", "dev", "uplink")
    forward = PortForward(host_port=8080, port=80, name="web")
    with socket.create_server((host, 8080)):
        error = refuse(lab, lab.make_plan(forwards=(forward,)), "port 8080/tcp of the host")
        assert f"(pid {os.getpid()})" in error.message
    other = attrs.evolve(forward, address=IPv4Address("10.99.0.2"))
    with socket.create_server(("127.0.0.1", 8080)):  # another address: in nobody's way
        lab.ensure(lab.make_plan(forwards=(other,)))
    with socket.create_server(("", 8080)):  # it was ours before
        lab.ensure(lab.make_plan(forwards=(other,), domain="other"))
    lab.remove()


def in_child(function):
    """Run a function in a child process and return what it returned, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def test_without_privilege_it_is_refused(lab, tools):
    """An ordinary user is told what is missing, before anything is tried."""

    def attempt():
        os.setuid(65534)
        try:
            lab.ensure(lab.make_plan())
        except NetError as error:
            return f"{error.message} / {error.hint}"

    assert in_child(attempt).startswith("not allowed to change the host's network / run as root")


def test_read_only_proc_sys_is_refused(lab, tools):
    """Forwarding off and /proc/sys read-only, as in many containers: one error, nothing done."""

    def attempt():
        tools.unshare(0x00020000)  # CLONE_NEWNS
        tools.run("mount", "--make-rprivate", "/")
        tools.run("mount", "--bind", "/proc/sys", "/proc/sys")
        tools.run("mount", "-o", "remount,ro,bind", "/proc/sys")
        try:
            lab.ensure(lab.make_plan())
        except NetError as error:
            return f"{error.message} / {error.hint}"

    said = in_child(attempt)
    assert said.startswith("IPv4 forwarding is off and /proc/sys/net/ipv4/ip_forward cannot be")
    assert "mount /proc/sys writable" in said


def test_dhcp_option_that_dnsmasq_does_not_take_is_quoted(lab, tools):
    """A line of a file that is gone when somebody reads of it: the error has the line."""
    options = (
        DhcpOption(option="ntp-server", value="10.0.0.1"),
        DhcpOption(option="xyz", value="b"),
    )
    refuse(lab, lab.make_plan(dhcp_options=options), "at line .*option:xyz,b")


def test_full_disk_is_named(lab, tools):
    """No space for dnsmasq's files: the error says where, and all is undone."""
    tools.run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", lab.run_dir)
    try:
        (lab.run_dir / "filler").write_bytes(bytes(4096))
        refuse(lab, lab.make_plan(), f"cannot write {lab.run_dir}.*No space left")
    finally:
        tools.run("umount", lab.run_dir)


def test_kernel_that_lacks_a_kind_of_interface_has_a_hint(lab):
    """Such as one without 8021q: the hint names what it takes."""
    before = lab.look()
    index = pick_index()
    wanted = make_simple(index, "x0", "nosuchkind", "alias")
    with open_links() as links, pytest.raises(NetError, match="cannot make x0") as caught:
        links.create(index, "x0", wanted, "cannot make x0")
    assert "8021q" in (caught.value.hint or "")
    assert lab.look() == before


THEIRS = """
iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.1:80
nft add table inet x
nft 'add chain inet x nat { type nat hook prerouting priority -100; }'
nft add rule inet x nat ip daddr 10.1.1.1 tcp dport 90-95 dnat ip to 10.0.0.1:80
nft add rule inet x nat udp dport 99 redirect to :80
nft add rule inet x nat tcp dport 8081 counter accept
"""


def test_port_that_others_forward_is_refused(lab, tools):
    """By a rule of another qorch, of iptables or of nftables: whose it is, and nothing done."""

    def plan(port, **changes):
        forward = PortForward(**{"host_port": port, "port": 80, "name": "web", **changes})
        return lab.make_plan(forwards=(forward,))

    other = attrs.evolve(plan(8000, count=2), name="dmz", bridge="dmz0", owner="feedf00d")
    other = attrs.evolve(other, gateway=IPv4Interface("192.168.140.1/24"), dhcp=None, leases=())
    forward = PortForward(host_port=8000, port=80, ip=IPv4Address("192.168.140.9"), count=2)
    ensure_network(attrs.evolve(other, forwards=(forward,)), run_dir=lab.run_dir)
    tools.run("sh", "-ec", THEIRS)
    for taken, who in (
        (plan(8001), r"port 8001/tcp .* network dmz of qorch feedf00d forwards it"),
        (plan(8080), "port 8080/tcp .* table ip nat, chain PREROUTING forwards it"),
        (plan(94), "port 94/tcp .* table inet x, chain nat forwards it"),
        (plan(99, proto=Transport.UDP), "port 99/udp .* table inet x, chain nat forwards it"),
    ):
        refuse(lab, taken, who)
    free = (plan(94, address=IPv4Address("10.1.1.2")), plan(99), plan(8081), plan(8002))
    for each in free:
        lab.ensure(each)
    lab.remove()
    remove_network("dmz", owner="feedf00d", run_dir=lab.run_dir)
    tools.run("nft", "flush", "ruleset")
