"""A network namespace for one test, and the proof that the test left nothing in it."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import attrs
import pytest

from qorch_net.network import ensure_network, remove_network
from qorch_net.plan import (
    DhcpRange,
    Lease,
    NetworkPlan,
    make_bridge_mac,
    make_interface_name,
)

CLONE_NEWNET = 0x40000000
OWNER = "0123abcd"
libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags):
    """Python has os.unshare from 3.12 on."""
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def setns(namespace):
    """Python has os.setns from 3.12 on."""
    if libc.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


def run(*words):
    """Run a program and return what it prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def make_plan(name="lan", subnet=133, *, owner=OWNER, **changes):
    """A network 192.168.SUBNET.0/24 with one lease, for `web`."""
    net = f"192.168.{subnet}"
    values = {
        "name": name,
        "owner": owner,
        "bridge": make_interface_name(owner, f"network/{name}", name),
        "mac": make_bridge_mac(owner, name),
        "gateway": IPv4Interface(f"{net}.1/24"),
        "dhcp": DhcpRange(start=IPv4Address(f"{net}.100"), end=IPv4Address(f"{net}.199")),
        "domain": name,
        "leases": (make_lease(1, f"{net}.150", "web"),),
    }
    return NetworkPlan(**{**values, **changes})


def make_lease(number, ip, name):
    """A lease for 52:54:00:00:00:NUMBER."""
    return Lease(mac=f"52:54:00:00:00:{number:02x}", ip=IPv4Address(ip), name=name)


@attrs.define(eq=False)
class Lab:
    """The test's own network namespace, further ones beside it, and a run directory."""

    run_dir: Path
    owner: str
    namespaces: list[int] = attrs.field(factory=list)

    def make_plan(self, *args, **options):
        """Plan a network of this lab's owner."""
        return make_plan(*args, **{"owner": self.owner, **options})

    def ensure(self, plan, **options):
        """Bring a network up."""
        ensure_network(plan, run_dir=self.run_dir, **options)

    def remove(self, name="lan", **options):
        """Remove a network."""
        remove_network(name, owner=self.owner, run_dir=self.run_dir, **options)

    def look(self):
        """All that a network can leave behind, to be compared."""
        addresses = json.loads(run("ip", "-j", "-d", "addr"))
        keys = ("ifname", "address", "ifalias", "mtu", "master", "linkinfo")
        return {
            "links": sorted(str([find_settings(x, key) for key in keys]) for x in addresses),
            "up": sorted(x["ifname"] for x in addresses if "UP" in x["flags"]),
            "addresses": sorted(str(a["local"]) for x in addresses for a in x["addr_info"]),
            "rules": run("nft", "list", "ruleset"),
            "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
            "processes": self.find_processes(),
            "files": {
                str(path): path.read_bytes() if path.is_file() else None
                for path in self.run_dir.rglob("*")
                if path.name not in {"pid", "leases"}
            },
        }

    def find_processes(self):
        """The pids of every other process in this namespace; what is exiting is left out."""
        here = Path("/proc/self/ns/net").readlink()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "ns/net").readlink() == here and int(path.name) != os.getpid():
                    found += [int(path.name)] if (path / "cmdline").read_bytes() else []
            except OSError:
                continue
        return found

    def add_namespace(self, peer, *, mac=None, inner="eth0"):
        """Another namespace, joined by a veth: `peer` here, `inner` there."""
        with self.inside_new() as namespace:
            run("ip", "link", "set", "lo", "up")
        address = ["address", mac] if mac else []
        run("ip", "link", "add", peer, "type", "veth", "peer", "name", inner, *address)
        run("ip", "link", "set", inner, "netns", f"/proc/{os.getpid()}/fd/{namespace}")
        run("ip", "link", "set", peer, "up")
        with self.inside(namespace):
            run("ip", "link", "set", inner, "up")
        return namespace

    @contextmanager
    def inside_new(self):
        """Make a network namespace and be inside for a while."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        self.namespaces.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        try:
            yield self.namespaces[-1]
        finally:
            setns(home)
            os.close(home)

    @contextmanager
    def inside(self, namespace):
        """Be inside another namespace for a while."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        setns(namespace)
        try:
            yield
        finally:
            setns(home)
            os.close(home)

    def kill_at(self, step, action):
        """Run `action(report)` in a child that is killed by SIGKILL when it reports `step`."""

        def report(name):
            if name == step:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if not child:
            try:
                action(report)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)


def find_settings(link, key):
    """A link's property; of a bridge's, those that we decide."""
    if key != "linkinfo":
        return link.get(key)
    data = link.get(key, {}).get("info_data", {})
    return data.get("stp_state"), data.get("forward_delay")


@pytest.fixture
def lab(tmp_path):
    """A fresh network namespace; nothing is left in it at the end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    unshare(CLONE_NEWNET)
    # Marked processes are found wherever they are: tests side by side need owners of their own.
    lab = Lab(tmp_path / "run", hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8])
    lab.run_dir.mkdir()
    try:
        run("ip", "link", "set", "lo", "up")
        clean = lab.look()
        yield lab
        for link in json.loads(run("ip", "-j", "link", "show", "type", "veth")):
            run("ip", "link", "del", link["ifname"])
        for namespace in lab.namespaces:
            os.close(namespace)
        assert lab.look() == clean
    finally:
        for pid in lab.find_processes():
            os.kill(pid, signal.SIGKILL)
        setns(home)
        os.close(home)


def resolve(name, server, seconds=5.0):
    """Ask a DNS server for an IPv4 address, None if there is no such name."""
    question = b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0"
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.sendto(query, (server, 53))
        answer = sock.recv(512)
    return str(IPv4Address(answer[-4:])) if struct.unpack("!H", answer[6:8])[0] else None


@pytest.fixture
def tools():
    """The functions of this file, for the tests' modules are no packages."""
    return Tools


class Tools:
    """Names for what the tests use."""

    make_plan = staticmethod(make_plan)
    make_lease = staticmethod(make_lease)
    resolve = staticmethod(resolve)
    run = staticmethod(run)
    unshare = staticmethod(unshare)
