"""Networks over the command line: shown, taken down, examined, tidied up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qorch.testing import Host

pytestmark = pytest.mark.live

NETWORKS = """
    [network.lan]
    subnet = "192.168.150.0/24"

    [network.dmz]
    mode = "isolated"
    subnet = "192.168.151.0/24"
"""
GUEST = """
    [vm.web]
    memory = "64MiB"
    accel = "tcg"
    ready = {{ console = "^GUEST-UP" }}

    [[vm.web.disk]]
    path = "{disk}"

    [[vm.web.nic]]
    network = "lan"

    [network.lan]
    subnet = "192.168.150.0/24"
    forward = [{{ host_port = 7070, vm = "web", port = 7, proto = "udp" }}]
"""


def ask(host: Host, *words: str) -> object:
    """What a verb prints as JSON."""
    done = host.qorch(*words, "--json")
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def test_networks_come_and_go_by_name(qorch_host: Host) -> None:
    """`network up` and `down` are idempotent; a network that is down is still defined."""
    qorch_host.up(NETWORKS, wait=None)
    rows = {row["name"]: row for row in ask(qorch_host, "network", "ls")}
    assert {name: row["state"] for name, row in rows.items()} == {"lan": "up", "dmz": "up"}
    for _ in range(2):
        assert qorch_host.qorch("network", "down", "lan", "dmz").returncode == 0
    assert qorch_host.find_leftovers() == []
    assert {row["state"] for row in ask(qorch_host, "network", "ls")} == {"down"}
    for _ in range(2):
        assert qorch_host.qorch("network", "up", "lan").returncode == 0
    assert ask(qorch_host, "network", "show", "lan")["dnsmasq"]
    qorch_host.down(NETWORKS)


def test_a_guest_is_seen_on_its_network(qorch_host: Host, bios_disk: Path) -> None:
    """Planned before it boots, leased and seen after that; counted; its network cannot go."""
    text = GUEST.format(disk=bios_disk)
    qorch_host.up(text)
    (planned,) = qorch_host.qorch("ip", "web").stdout.split()
    (nic,) = ask(qorch_host, "ip", "web")
    assert nic["planned"] == nic["leased"] == [planned]
    qorch_host.run("ping", "-c1", "-W5", planned)
    (nic,) = ask(qorch_host, "ip", "web")
    assert planned in nic["seen"]
    details = ask(qorch_host, "network", "show", "lan")
    (port,) = details["ports"]
    assert (port["machine"], port["tap"] != "", port["counters"]["rx_packets"] > 0) == (
        "web",
        True,
        True,
    )
    (lease,) = ask(qorch_host, "network", "leases", "lan")
    assert (lease["ip"], lease["name"], lease["planned"], lease["leased"]) == (
        planned,
        "web",
        True,
        True,
    )
    shown = qorch_host.qorch("network", "show", "lan").stdout
    assert f"udp 7070 -> web ({planned}) 7" in shown
    assert f"── {port['tap']}  web/nic0" in shown
    done = qorch_host.qorch("network", "down", "lan")
    assert done.returncode == 1
    assert "network lan is in use by web" in done.stderr
    qorch_host.down(text)


def test_what_somebody_takes_away_is_put_back(qorch_host: Host, bios_disk: Path) -> None:
    """A bridge, its address, a bridge that others made anew: at once, or by a new supervisor."""
    text = GUEST.format(disk=bios_disk)
    text += '[network.theirs]\nmode = "bridge"\nbridge = "br0"\n'
    text = text.replace("[network.lan]", '[[vm.web.nic]]\nnetwork = "theirs"\n[network.lan]', 1)
    qorch_host.run("ip", "link", "add", "br0", "up", "type", "bridge")
    qorch_host.up(text)
    (planned,) = qorch_host.qorch("ip", "web").stdout.split()
    details = ask(qorch_host, "network", "show", "lan")
    bridge, (port,) = details["bridge"], details["ports"]
    (other,) = ask(qorch_host, "network", "show", "theirs")["ports"]
    with qorch_host.client.open_events() as events:

        def take(*command: str) -> object:
            qorch_host.run("ip", *command)
            return next(events)["step"]

        assert take("addr", "flush", "dev", bridge) == "bridge"
        assert take("link", "set", bridge, "down") == "bridge"
        assert take("link", "del", bridge) == f"bridge, tap {port['tap']}"
        qorch_host.run("ping", "-c1", "-W5", planned)
        qorch_host.run("ip", "link", "del", "br0")
        event = next(events)
        assert (event["event"], event["network"]) == ("NETWORK_BROKEN", "theirs")
        assert event["error"] == "there is no bridge br0 for network theirs"
        qorch_host.run("ip", "link", "add", "br0", "up", "type", "bridge")
        assert next(events)["step"] == f"tap {other['tap']}"
    qorch_host.kill_supervisor()
    qorch_host.run("ip", "link", "del", bridge)
    assert {row["state"] for row in ask(qorch_host, "network", "ls")} == {"up"}
    qorch_host.run("ping", "-c1", "-W5", planned)
    with qorch_host.client.open_events() as events:
        qorch_host.run("ip", "link", "del", "br0")
        assert next(events)["event"] == "NETWORK_BROKEN"
        qorch_host.run("ip", "link", "add", "br0", "up", "type", "bridge")
        assert next(events)["step"] == f"tap {other['tap']}"
    qorch_host.down(text)
    qorch_host.run("ip", "link", "del", "br0")


def test_up_names_the_firewall_that_stops_guests(qorch_host: Host) -> None:
    """A forward chain of others that drops: `up` and `doctor` print the table and the cure."""
    qorch_host.run("nft", "add table inet wall")
    chain = "{ type filter hook forward priority 0; policy drop; }"
    qorch_host.run("nft", f"add chain inet wall through {chain}")
    (Path(qorch_host.directory) / "vm.toml").write_text(NETWORKS)
    done = qorch_host.qorch("up", Path(qorch_host.directory) / "vm.toml")
    assert done.returncode == 0
    assert (
        "note: network lan: nftables: table inet wall, chain through (policy drop)" in done.stderr
    )
    bridge = next(x["bridge"] for x in ask(qorch_host, "network", "ls") if x["name"] == "lan")
    cure = f"nft 'insert rule inet wall through iifname \"{bridge}\" accept'"
    assert cure in done.stderr
    examined = qorch_host.qorch("doctor")
    assert examined.returncode == 1
    assert f"hint: {cure}" in examined.stdout
    qorch_host.run("nft", "delete table inet wall")
    qorch_host.down(NETWORKS)


def test_doctor_on_a_healthy_host(qorch_host: Host) -> None:
    """Every check has its say, none starts a supervisor, and nothing is wrong."""
    done = qorch_host.qorch("doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {finding["check"] for finding in findings} >= {
        *("kvm", "program", "qemu", "tun", "forwarding"),
        *("firewall", "bridge-nf", "manager", "leftover"),
    }
    assert not qorch_host.state.api_socket.exists()


def test_doctor_misses_what_is_missing(qorch_host: Host, tmp_path: Path) -> None:
    """Without QEMU the host is unwell, and the package that has it is named."""
    words = (sys.executable, "-m", "qorch", "--state-dir", str(tmp_path), "doctor")
    command = (*words, "--json")
    done = subprocess.run(
        command, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    missing = [x for x in json.loads(done.stdout) if "qemu-system-x86_64" in x["message"]]
    assert missing[0]["hints"] == ["apt-get install qemu-system-x86"]


def test_gc(qorch_host: Host) -> None:
    """What belongs to nothing is listed, then removed; a stranger's bridge stays."""
    assert ask(qorch_host, "gc") == []
    qorch_host.up(NETWORKS, wait=None)
    owner, state = qorch_host.state.owner, qorch_host.state
    qorch_host.run("ip", "link", "add", "orphan", "type", "bridge")
    qorch_host.run("ip", "link", "set", "orphan", "alias", f"qorch:{owner}:network/gone")
    qorch_host.run("ip", "link", "add", "limit", "type", "ifb")
    qorch_host.run("ip", "link", "set", "limit", "alias", f"qorch:{owner}:vm/gone/nic0")
    qorch_host.run("ip", "link", "add", "stranger", "type", "bridge")
    (state.run / "vm" / "gone").mkdir(parents=True)
    temporary = state.default_pool / ".qorch-tmp-1"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.touch()
    with qorch_host.inside():
        process = subprocess.Popen(["sleep", "60"], env={"QORCH_OWNER": f"{owner}:vm/gone"})
    found = {(row["kind"], row["name"]) for row in ask(qorch_host, "gc")}
    assert found == {
        ("interface", "orphan"),
        ("interface", "limit"),
        ("process", str(process.pid)),
        ("directory", str(state.run / "vm" / "gone")),
        ("file", str(temporary)),
    }
    assert process.poll() is None
    assert qorch_host.qorch("doctor").returncode == 1
    rows = json.loads(qorch_host.qorch("gc", "--remove", "--json").stdout)
    assert [row["removed"] for row in rows] == [True] * 5
    assert process.wait() == -9
    assert ask(qorch_host, "gc") == []
    assert {row["state"] for row in ask(qorch_host, "network", "ls")} == {"up"}
    qorch_host.run("ip", "link", "del", "stranger")
    qorch_host.down(NETWORKS)
