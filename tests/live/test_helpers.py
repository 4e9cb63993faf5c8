"""Helper processes end with their machine, whoever dies first, and are taken over with it."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qorch.helpers import find_helpers
from qorch.testing import Host

pytestmark = pytest.mark.live

DOCUMENT = """
[vm.web]
accel = "tcg"
memory = "64MiB"
tpm = "2.0"
disk = [{{ path = "{disk}" }}]
share = [{{ path = "{directory}", tag = "data" }}]
nic = [{{ user = {{ passt = true, net = "10.7.0.0/24" }} }}]
"""
HELPERS = {"tpm", "share0", "nic0"}


@pytest.fixture
def document(qorch_host: Host, bios_disk: Path, tmp_path: Path) -> Iterator[str]:
    """A guest with a TPM, a share and a network, on a host that has a way out."""
    (tmp_path / "shared").mkdir()
    for words in (
        "link add way type veth peer name far",
        "link set far up",
        "link set way up",
        "addr add 10.99.0.2/24 dev way",
        "route add default via 10.99.0.1",
    ):
        qorch_host.run("ip", *words.split())
    yield DOCUMENT.format(disk=bios_disk, directory=tmp_path / "shared")
    qorch_host.run("ip", "link", "del", "way")


def find(host: Host) -> dict[str, set[int]]:
    """The processes of each helper."""
    found: dict[str, set[int]] = {}
    for _, id_, process in find_helpers(host.state.owner):
        found.setdefault(id_, set()).add(process.pid)
        process.close()
    return found


def kill(pid: int, *, wait: bool = True) -> None:
    """`kill -9` a process and wait for its end."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    if wait:
        assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)


def wait_ended(host: Host) -> None:
    """Wait until the machine's end is noticed, which is an event."""
    with host.client.open_events("web") as events:
        if host.machine("web").show()["state"] == "running":
            assert any(event["event"] in ("CRASHED", "STOPPED") for event in events)


def test_helpers_live_and_end_with_their_machine(qorch_host: Host, document: str) -> None:
    """They are there while it runs; the TPM's state stays until the machine is removed."""
    qorch_host.up(document, wait=None)
    assert qorch_host.qorch("gc", "--remove", "--json").stdout.split() == ["[]"]
    assert find(qorch_host).keys() == HELPERS
    state = qorch_host.state.machine_data("web") / "tpm"
    qorch_host.client.kill_machine("web", report=lambda _: None)
    assert find(qorch_host) == {}
    assert list(state.iterdir())
    qorch_host.client.start_machine("web", report=lambda _: None)
    assert find(qorch_host).keys() == HELPERS
    qorch_host.down(document)
    assert find(qorch_host) == {}
    assert not state.exists()


def test_the_next_supervisor_takes_helpers_over(qorch_host: Host, document: str) -> None:
    """The same processes go on, and end with the machine that was adopted."""
    qorch_host.up(document, wait=None)
    before = find(qorch_host)
    qorch_host.kill_supervisor()
    assert qorch_host.machine("web").show()["state"] == "running"
    assert find(qorch_host) == before
    kill(qorch_host.machine("web").show()["pid"])
    wait_ended(qorch_host)
    assert find(qorch_host) == {}


def test_helpers_whose_machine_is_gone_are_ended(qorch_host: Host, document: str) -> None:
    """Supervisor and QEMU were killed; the next supervisor leaves nothing of them."""
    qorch_host.up(document, wait=None)
    pid = qorch_host.machine("web").show()["pid"]
    qorch_host.kill_supervisor()
    kill(pid)
    assert qorch_host.machine("web").show()["state"] == "stopped"
    assert find(qorch_host) == {}


def test_a_helper_that_dies_is_an_event(qorch_host: Host, document: str) -> None:
    """The machine runs on without it, which everybody says, until it is restarted."""
    qorch_host.up(document, wait=None)
    seen: list[dict[str, object]] = []
    ready = threading.Event()

    def listen() -> None:
        with qorch_host.client.open_events("web") as events:
            ready.set()
            for event in events:
                seen.append(event)
                if event["event"] == "HELPER_ENDED":
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(60)
    (tpm,) = find(qorch_host)["tpm"]
    kill(tpm, wait=False)
    thread.join(60)
    assert seen[-1]["event"] == "HELPER_ENDED"
    shown = qorch_host.machine("web").show()
    assert shown["state"] == "running"
    assert [(item["id"], item["state"]) for item in shown["helpers"]] == [
        ("tpm", "ended"),
        ("share0", "running"),
        ("nic0", "running"),
    ]
    examined = qorch_host.qorch("doctor")
    assert "web runs without its tpm" in examined.stdout + examined.stderr
    told: list[dict[str, Any]] = []
    qorch_host.client.up(Host._document(document), report=told.append)
    assert any("qorch restart web" in str(item) for item in told)
    qorch_host.client.restart_machine("web", report=lambda _: None, grace=0)
    assert find(qorch_host).keys() == HELPERS
