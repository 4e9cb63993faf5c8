"""A NAT network up and down, by qorch_net and by `ip`, `nft` and `dnsmasq`; a guest's DHCP time.

By hand is what a careful shell script does: one `ip -batch`, one `nft -f -`, the same dnsmasq with
the same configuration. Programs are spawned by posix_spawn, their output thrown away.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from ipaddress import IPv4Interface
from pathlib import Path

import common

from qorch.testing.namespace import enter_namespace, open_namespace
from qorch_net.dnsmasq import find_dnsmasq, find_program, make_files
from qorch_net.network import ensure_network, remove_network
from qorch_net.plan import DhcpRange, Lease, NetworkPlan, make_bridge_mac
from qorch_net.rules import make_rules

UP_LIMIT = 1.5
DOWN_LIMIT = 1.5
OWNER = "0123abcd"
MAC = "52:54:00:00:00:01"
_GATEWAY = IPv4Interface("192.168.150.1/24")


def make_plan(name: str, bridge: str) -> NetworkPlan:
    """A NAT network with one lease."""
    return NetworkPlan(
        name=name,
        owner=OWNER,
        bridge=bridge,
        mac=make_bridge_mac(OWNER, name),
        gateway=_GATEWAY,
        dhcp=DhcpRange(start=_GATEWAY.ip + 99, end=_GATEWAY.ip + 198),
        domain=name,
        leases=(Lease(mac=MAC, ip=_GATEWAY.ip + 4, name="web"),),
    )


class ByHand:
    """The same network by the programs that people use."""

    def __init__(self, directory: Path) -> None:
        self.plan = make_plan("hand", "brhand")
        self.directory = directory / "hand"
        self.directory.mkdir()
        for name, content in make_files(self.plan, self.directory, "nobody").items():
            (self.directory / name).write_bytes(content)
        self.directory.chmod(0o755)
        self.dnsmasq = find_program("dnsmasq")
        self.rules = self._make_rules()

    def _make_rules(self) -> str:
        chains = {
            "prerouting": "type nat hook prerouting priority -100;",
            "input": "type filter hook input priority 0;",
            "forward": "type filter hook forward priority 0;",
            "output": "type nat hook output priority -100;",
            "postrouting": "type nat hook postrouting priority 100;",
        }
        rules = make_rules(self.plan)
        lines = ["table inet hand {"]
        for name, base in chains.items():
            lines += [f"chain {name} {{", base]
            lines += [str(rule) for rule in rules if rule.chain == name]
            lines.append("}")
        return "\n".join([*lines, "}\n"])

    def up(self) -> None:
        """Bridge, forwarding, rules, dnsmasq."""
        bridge = self.plan.bridge
        batch = (
            f"link add {bridge} address {self.plan.mac} type bridge stp_state 0 forward_delay 0\n"
            f"link set {bridge} alias hand\n"
            f"addr add {_GATEWAY} brd + dev {bridge}\n"
            f"link set {bridge} up\n"
        )
        subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        subprocess.run(["nft", "-f", "-"], input=self.rules.encode(), check=True)
        config = self.directory / "dnsmasq.conf"
        subprocess.run([self.dnsmasq, f"--conf-file={config}"], check=True)

    def down(self) -> None:
        """The other way round."""
        pid = int((self.directory / "pid").read_text())
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [])
        os.close(pidfd)
        subprocess.run(["ip", "link", "del", self.plan.bridge], check=True)
        subprocess.run(["nft", "delete", "table", "inet", "hand"], check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")


class ByQorch:
    """The same by qorch_net."""

    def __init__(self, directory: Path) -> None:
        self.plan = make_plan("qorch", "brqorch")
        self.run_dir = directory

    def up(self) -> None:
        """Everything."""
        ensure_network(self.plan, run_dir=self.run_dir)

    def down(self) -> None:
        """Everything."""
        remove_network(self.plan.name, owner=OWNER, run_dir=self.run_dir)


class Guest:
    """A DHCP client in a namespace on a bridge."""

    def __init__(self) -> None:
        self.holder: subprocess.Popen | None = None

    def plug(self, bridge: str) -> None:
        """Make it, without an address."""
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo up; exec sleep 600"], stdout=subprocess.PIPE
        )
        self.holder.stdout.readline()
        pair = f"vbench type veth peer name eth0 address {MAC} netns {self.holder.pid}"
        for words in (f"link add {pair}", f"link set vbench master {bridge} up"):
            subprocess.run(["ip", *words.split()], check=True)
        subprocess.run([*self.inside, "ip", "link", "set", "eth0", "up"], check=True)

    @property
    def inside(self) -> list[str]:
        """What runs a program there."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def ask(self) -> None:
        """Ask for an address, until there is one."""
        words = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true"]
        subprocess.run([*self.inside, *words], stderr=subprocess.DEVNULL, check=True)

    def unplug(self) -> None:
        """Remove it."""
        self.holder.kill()
        self.holder.wait()
        # It goes with the namespace, unless that is slower than we are.
        remove = ["ip", "link", "del", "vbench"]
        subprocess.run(remove, stderr=subprocess.DEVNULL, check=False)


def make_duels(directory: Path) -> list[common.Duel]:
    """A network up, a guest's address, a network down."""
    hand, ours, guest = ByHand(directory), ByQorch(directory), Guest()
    up: list[ByHand | ByQorch] = []

    def bring_up(one: ByHand | ByQorch) -> None:
        one.up()
        up.append(one)

    def take_down() -> None:
        while up:
            up.pop().down()

    def plug(one: ByHand | ByQorch) -> None:
        bring_up(one)
        guest.plug(one.plan.bridge)

    def unplug() -> None:
        guest.unplug()
        take_down()

    return [
        common.Duel(
            name="network up",
            bare=lambda: bring_up(hand),
            ours=lambda: bring_up(ours),
            undo=take_down,
            limit=UP_LIMIT,
        ),
        common.Duel(
            name="network down",
            before_bare=hand.up,
            before_ours=ours.up,
            bare=hand.down,
            ours=ours.down,
            limit=DOWN_LIMIT,
        ),
        common.Duel(
            name="guest asks, is told",
            before_bare=lambda: plug(hand),
            before_ours=lambda: plug(ours),
            bare=guest.ask,
            ours=guest.ask,
            undo=unplug,
            limit=UP_LIMIT,
        ),
    ]


def main() -> bool:
    """Measure in a namespace of its own, and tell whether all is within its limit."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    with open_namespace() as namespace, enter_namespace(namespace):
        with tempfile.TemporaryDirectory(prefix="qorch-bench-") as name:
            directory = Path(name)
            directory.chmod(0o755)
            good = common.run(make_duels(directory), rounds)
        if find_dnsmasq(OWNER):
            sys.exit("error: a dnsmasq was left behind")
    return good


if __name__ == "__main__":
    sys.exit(not main())
