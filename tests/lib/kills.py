"""SIGKILL for a supervisor while it brings networks up or down, at random instants."""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import threading
import time
from contextlib import suppress

from qorch.client import Client, ClientError
from qorch.leftovers import find_leftovers
from qorch.network_client import NetworkClient
from qorch.testing import Host
from qorch.testing.host import open_host

DOCUMENT = """
[network.lan]
subnet = "192.168.150.0/24"
subnet6 = "fd00:150::/64"
forward = [{ host_port = 8080, ip = "192.168.150.7", port = 80 }]

[network.dmz]
mode = "isolated"
subnet = "192.168.151.0/24"
"""


def kill_at_random(host: Host, rounds: int, seed: int) -> list[str]:
    """Kill in so many rounds; what was wrong after any of them, in words."""
    instants = random.Random(seed)  # noqa: S311
    seconds = {verb: _time(host, verb) for verb in ("up", "down")}
    wrong = []
    for number in range(rounds):
        verb = instants.choice(("up", "down"))
        if verb == "down":
            host.up(DOCUMENT, wait=None)
        instant = instants.uniform(0, 1.2 * seconds[verb])
        _kill(host, verb, instant)
        about = f"round {number}, {verb} killed after {instant * 1000:.0f} ms"
        wrong += [f"{about}: {problem}" for problem in _examine(host, verb)]
    return wrong


def _time(host: Host, verb: str) -> float:
    start = time.monotonic()
    getattr(host, verb)(DOCUMENT, **({"wait": None} if verb == "up" else {}))
    return time.monotonic() - start


def _kill(host: Host, verb: str, instant: float) -> None:
    """Start a verb, and kill the supervisor in the middle of it."""
    pid = host.client.find_supervisor()["pid"]
    host.client.close()
    supervisor = os.pidfd_open(pid)
    asking = threading.Thread(target=_ask, args=(host, verb))
    asking.start()
    time.sleep(instant)  # the random instant itself
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(supervisor, signal.SIGKILL)
    select.select([supervisor], [], [])
    os.close(supervisor)
    asking.join()


def _ask(host: Host, verb: str) -> None:
    with Client(host.state, start=False) as client, suppress(ClientError):
        document = host._document(DOCUMENT)
        getattr(client, verb)(document, report=lambda _: None)


def _examine(host: Host, verb: str) -> list[str]:
    """What is wrong after the next start, and after the same verb once more."""
    NetworkClient(host.client).find_networks()  # the next start
    with host.inside():
        wrong = [f"left behind: {leftover}" for leftover in find_leftovers(host.state)]
    try:
        getattr(host, verb)(DOCUMENT, **({"wait": None} if verb == "up" else {}))
    except ClientError as error:
        return [*wrong, f"the retry failed: {error}"]
    if verb == "up":
        networks = NetworkClient(host.client)
        wrong += [
            f"network {row['name']} is not up after the retry"
            for row in networks.find_networks()
            if row["state"] != "up" or not networks.show_network(row["name"])["dnsmasq"]
        ]
        host.down(DOCUMENT)
    return wrong + [f"left after the retry: {left}" for left in host.find_leftovers()]


def main() -> None:
    """Kill as often as asked for, and say what was wrong."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 16)  # noqa: S311
    with open_host() as host:
        wrong = kill_at_random(host, rounds, seed)
    lines = [*wrong, f"{rounds} kills, seed {seed}: {len(wrong)} things wrong"]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
