"""Guests that are network namespaces on a veth: plugged into a bridge, configured by DHCP."""

import socket
import subprocess
from contextlib import contextmanager
from ipaddress import ip_interface

WEB = "52:54:00:00:00:01"


def plug(lab, tools, plan, name, mac=WEB):
    """Put a guest on the network's bridge."""
    guest = lab.add_namespace(name, mac=mac)
    tools.run("ip", "link", "set", name, "master", plan.bridge)
    return guest


def ask_dhcp(lab, guest, *options):
    """Run a DHCP client in the guest, configure eth0 and return what it was told."""
    script = lab.run_dir.parent / "udhcpc"
    script.write_text(
        "#!/bin/sh\n"
        '[ "$1" = bound ] || exit 0\n'
        "ip addr add $ip/$mask dev $interface\n"
        "ip route add default via $router\n"
        "env\n"
    )
    script.chmod(0o755)
    words = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", str(script), *options]
    with lab.inside(guest):
        output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def ask_dhcp6(lab, tools, guest):
    """Run a DHCPv6 client in the guest, give eth0 its address, which is returned."""
    directory = lab.run_dir.parent
    script = directory / "dhclient-script"
    script.write_text(
        "#!/bin/sh\n"
        '[ "$reason" = BOUND6 ] || exit 0\n'
        "ip addr add $new_ip6_address/128 dev $interface nodad\n"
        "echo bound $new_ip6_address\n"
    )
    script.chmod(0o755)
    files = ["-lf", str(directory / f"leases6.{guest}"), "-pf", str(directory / "pid6")]
    words = ["dhclient", "-6", "-1", "-d", "-D", "LL", *files, "-sf", str(script), "eth0"]
    with lab.inside(guest):
        # An address of the link that is there at once: the kernel's own takes a second.
        tools.run("ip", "link", "set", "eth0", "addrgenmode", "none")
        tools.run("ip", "-6", "addr", "flush", "dev", "eth0")
        tools.run("ip", "addr", "add", f"fe80::{guest}/64", "dev", "eth0", "nodad")
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(words, **pipe) as client:
            said = []
            for line in client.stdout:
                said.append(line)
                if line.startswith("bound "):
                    break
            client.terminate()
    assert said[-1].startswith("bound "), "".join(said)
    return said[-1].split()[1]


@contextmanager
def uplink(lab, tools):
    """A server in another namespace, 10.99.0.2, which knows a way back to the guests."""
    server = lab.add_namespace("uplink")
    tools.run("ip", "addr", "add", "10.99.0.1/24", "dev", "uplink")
    with lab.inside(server):
        tools.run("ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")
        tools.run("ip", "route", "add", "192.168.0.0/16", "via", "10.99.0.1")
    yield server


def listen(lab, namespace, port=80):
    """Listen in a namespace."""
    with lab.inside(namespace):
        return socket.create_server(("", port))


def accept(listener):
    """Accept a connection and return the address that it comes from."""
    connection, peer = listener.accept()
    connection.close()
    return peer[0]


def connect(lab, namespace, address, port=80, seconds=5.0):
    """Connect from a namespace; TimeoutError if nothing answers."""
    with lab.inside(namespace):
        return socket.create_connection((address, port), timeout=seconds)


def settle(lab, tools, guest, *addresses):
    """Give a guest addresses and, as its routers, the first address of each one's subnet."""
    with lab.inside(guest):
        for text in addresses:
            interface = ip_interface(text)
            tools.run("ip", "addr", "add", text, "dev", "eth0", "nodad")
            router = str(interface.network.network_address + 1)
            tools.run("ip", "route", "replace", "default", "via", router)


def add_ipv6_uplink(lab, tools, server):
    """Make the server of `uplink` fd99::2, too, with a way back to the guests."""
    tools.run("ip", "addr", "add", "fd99::1/64", "dev", "uplink", "nodad")
    with lab.inside(server):
        tools.run("ip", "addr", "add", "fd99::2/64", "dev", "eth0", "nodad")
        tools.run("ip", "route", "add", "fd00::/16", "via", "fd99::1")


def listen6(lab, namespace, port=80):
    """Listen in a namespace, for IPv6."""
    with lab.inside(namespace):
        return socket.create_server(("::", port), family=socket.AF_INET6)
