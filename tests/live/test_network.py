"""Networks as the supervisor keeps them: repaired, shared, taken down."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qorch.client import ClientError
from qorch.network_client import NetworkClient
from qorch.testing import Host

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
DOCUMENT = """
    [vm.{name}]
    memory = "64MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}

    [[vm.{name}.disk]]
    path = "{disk}"

    [[vm.{name}.nic]]
"""


def find_dnsmasq(host: Host) -> list[int]:
    """The pids of this host's dnsmasq processes, as `pgrep` would find them by their mark."""
    mark = f"QORCH_OWNER={host.state.owner}:network/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_dnsmasq_is_started_again(qorch_host: Host, bios_disk: Path) -> None:
    """A dnsmasq that dies is noticed and started again."""
    qorch_host.up(DOCUMENT.format(name="web", disk=bios_disk))
    before = find_dnsmasq(qorch_host)
    assert before
    with qorch_host.client.open_events() as events:
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert any(
            (event["event"], event.get("step")) == ("NETWORK_REPAIRED", "dnsmasq")
            for event in events
        )
    assert qorch_host.machine("web").show()["state"] == "running"


def test_one_broken_network_keeps_no_supervisor_from_starting(qorch_host: Host) -> None:
    """Somebody holds the address of one of two: told, and put right when the address is free."""
    text = '[network.lan]\nsubnet = "192.168.150.0/24"\n[network.two]\n'
    qorch_host.up(text, wait=None)
    qorch_host.kill_supervisor()
    for pid in find_dnsmasq(qorch_host):
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([pidfd], [], [])
        os.close(pidfd)
    with qorch_host.inside():
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        holder.bind(("192.168.150.1", 53))
    with holder:
        rows = NetworkClient(qorch_host.client).find_networks()
        assert [row["state"] for row in rows] == ["up", "up"]
        assert "network lan: is broken: dnsmasq" in qorch_host.state.supervisor_log.read_text()
        with qorch_host.client.open_events() as events:
            holder.close()
            assert any(
                (event["event"], event.get("network")) == ("NETWORK_REPAIRED", "lan")
                for event in events
            )
    qorch_host.down(text)


def test_an_up_that_fails_changes_no_network(qorch_host: Host, tmp_path: Path) -> None:
    """A network that was changed is as it was, without leases of what was not made."""
    text = '[network.lan]\nsubnet = "192.168.150.0/24"\n'
    machine = '[vm.web]\n[[vm.web.disk]]\nsize = "1MiB"\n[[vm.web.nic]]\nnetwork = "lan"\n'
    (tmp_path / "file").write_bytes(b"")
    fails = f'[pool.p]\npath = "{tmp_path}/file"\n[volume.v]\npool = "p"\nsize = "1MiB"\n'
    qorch_host.up(text, wait=None)
    hosts = qorch_host.state.run / "network" / "lan" / "dhcp-hosts"
    before = show_addresses(qorch_host), hosts.read_text()
    for changed in (text.replace("150", "151"), text + machine):
        with pytest.raises(ClientError, match="Not a directory"):
            qorch_host.up(changed + fails, wait=None)
        assert (show_addresses(qorch_host), hosts.read_text()) == before
    qorch_host.down(text)


def show_addresses(host: Host) -> str:
    """The addresses of all interfaces."""
    return host.run("ip", "-4", "-o", "addr").stdout


@pytest.mark.parametrize(
    "command", ["flush ruleset", "delete table inet {}", "flush table inet {}"]
)
def test_rules_are_put_back(qorch_host: Host, command: str) -> None:
    """Rules that somebody else flushes are back, and all ends clean; own changes are no event."""
    text = '[network.lan]\nsubnet = "192.168.150.0/24"\n'
    with qorch_host.client.open_events() as events:
        qorch_host.up(text, wait=None)
        table = f"qorch-{qorch_host.state.owner}"
        before = qorch_host.run("nft", "list", "ruleset").stdout
        assert "192.168.150.0/24" in before
        qorch_host.run("nft", *command.format(table).split())
        event = next(events)
        wanted = {"event": "NETWORK_REPAIRED", "network": "lan", "step": "rules"}
        assert event.items() >= wanted.items()
        assert qorch_host.run("nft", "list", "ruleset").stdout == before
        qorch_host.down(text)
    assert qorch_host.find_leftovers() == []
    assert qorch_host.run("cat", "/proc/sys/net/ipv4/ip_forward").stdout == "0\n"


def test_builtin_network_goes_with_its_last_machine(
    qorch_host: Host, bios: Path, tmp_path: Path
) -> None:
    """Two machines on the built-in network: it stays with one and goes with the other."""
    texts = []
    for name in ("one", "two"):
        disk = tmp_path / f"{name}.raw"
        disk.write_bytes((bios / "disk.img").read_bytes())
        texts.append(DOCUMENT.format(name=name, disk=disk))
        qorch_host.up(texts[-1])
    ips = {row["name"]: row["ips"][0] for row in qorch_host.client.find_machines()}
    assert len(set(ips.values())) == 2
    qorch_host.down(texts[0])
    qorch_host.run("ping", "-c1", "-W5", ips["two"])
    qorch_host.down(texts[1])
    assert qorch_host.find_leftovers() == []


def test_forwarding_is_put_back(qorch_host: Host, bios_disk: Path) -> None:
    """IPv4 forwarding is on while a NAT network is up and off again afterwards."""
    text = DOCUMENT.format(name="web", disk=bios_disk)
    show = ("cat", "/proc/sys/net/ipv4/ip_forward")
    assert qorch_host.run(*show).stdout == "0\n"
    qorch_host.up(text)
    assert qorch_host.run(*show).stdout == "1\n"
    qorch_host.down(text)
    assert qorch_host.run(*show).stdout == "0\n"


def test_embed(qorch_host: Host, tiny: Path) -> None:
    """examples/embed.py runs the demo's machine in its own process and leaves nothing."""
    assert (tiny / "vmlinuz").exists()
    done: subprocess.CompletedProcess[str] = qorch_host.run(
        sys.executable, ROOT / "examples" / "embed.py", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hostname: web" in done.stdout
    assert "'affinity': [1]" in done.stdout
    assert qorch_host.find_leftovers() == []
