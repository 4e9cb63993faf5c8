"""A supervisor without machines: what it is asked to do depends on the machine's name.

`broken` raises our own error, `crash` an unexpected one, `slow` waits until the test says so.
Run as a program it takes the place of `python -m qorch` for a client that starts a supervisor.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import socket
import sys
import threading
from pathlib import Path

import attrs
import trio

from qorch.api.activity import Activity
from qorch.api.serve import run_api
from qorch.errors import InputError, MachineError, NotFoundError, Problem
from qorch.paths import StateDir
from qorch.progress import Progress
from qorch_net.errors import NetError

ROW = {
    "name": "web",
    "state": "running",
    "pid": 4711,
    "uuid": "6d3f2e7c-0000-4000-8000-000000000001",
    "cpus": 2,
    "memory": 1 << 30,
    "accel": "tcg",
    "ips": ["192.168.133.5"],
    "uptime": 192.5,
}
DETAILS = {
    **ROW,
    "disks": [{"id": "disk0", "path": "/pool/web-0.qcow2", "format": "qcow2"}],
    "nics": [{"tap": "qo1", "mac": "52:54:00:00:00:01", "bridge": "br0", "ips": ["192.168.133.5"]}],
    "vcpus": [{"index": 0, "thread_id": 4712, "affinity": [0]}],
    "console": "/run/console.sock",
    "qmp": "/run/monitor.sock",
}
NO_KVM = Progress("vm", "web", message="KVM is not there: it runs under TCG")


@attrs.frozen
class Change:
    """As qorch.plan's."""

    action: str
    kind: str
    name: str
    detail: str


@attrs.define(eq=False)
class Watcher:
    """One console's watcher; everything typed is printed to all."""

    send_to_all: object
    channel: trio.MemoryReceiveChannel

    async def send(self, data):
        """Type."""
        self.send_to_all(data)

    def __aiter__(self):
        """Read."""
        return self.channel


NETWORK = {
    "name": "lan",
    "mode": "nat",
    "state": "up",
    "bridge": "br0",
    "subnet": "192.168.133.0/24",
    "subnet6": None,
    "machines": ["web", "db"],
    "builtin": False,
}
COUNTERS = {
    "rx_bytes": 2048,
    "rx_packets": 20,
    "rx_dropped": 0,
    "tx_bytes": 4096,
    "tx_packets": 40,
    "tx_dropped": 3,
}
NIC = {
    "id": "nic0",
    "network": "lan",
    "mac": "52:54:00:00:00:01",
    "ips": ["192.168.133.5"],
    "planned": ["192.168.133.5"],
    "leased": [],
    "seen": ["192.168.133.5", "fe80::5054:ff:fe00:1"],
}
LEASES = [
    {
        "ip": "192.168.133.5",
        "mac": "52:54:00:00:00:01",
        "name": "web",
        "planned": True,
        "leased": True,
        "expires": "2026-11-25T12:00:00+00:00",
    },
    {
        "ip": "192.168.133.9",
        "mac": "52:54:00:00:00:09",
        "name": None,
        "planned": False,
        "leased": True,
        "expires": None,
    },
]
NETWORK_DETAILS = {
    **NETWORK,
    "uplink": "eth0",
    "subinterface": "eth0.10",
    "dns": [],
    "forwards": [
        {
            "proto": "tcp",
            "host": None,
            "host_port": 8080,
            "vm": "web",
            "ip": "192.168.133.5",
            "port": 80,
            "count": 2,
        },
        {
            "proto": "udp",
            "host": "10.0.0.1",
            "host_port": 53,
            "vm": None,
            "ip": "192.168.133.7",
            "port": 53,
            "count": 1,
        },
    ],
    "ports": [
        {"machine": "web", "tap": "qo1", **NIC, "counters": COUNTERS},
        {"machine": "db", "tap": "qo2", **NIC, "planned": [], "seen": [], "counters": None},
        {"machine": None, "tap": "veth7", "counters": COUNTERS},
    ],
    "blockers": [{"message": "nftables: table inet wall stops all", "cures": ["nft x", "nft y"]}],
}


@attrs.define(eq=False)
class FakeNetworks:
    """What `qorch.api.protocol.Networks` says, in memory: one network."""

    asked: list

    def _check(self, name):
        if name != "lan":
            raise NotFoundError(f"there is no network {name!r}", "networks: lan")

    def find_networks(self):
        """List."""
        return [NETWORK]

    async def show_network(self, name):
        """Describe."""
        self._check(name)
        return NETWORK_DETAILS

    async def find_leases(self, name):
        """List addresses."""
        self._check(name)
        return LEASES

    async def find_addresses(self, machine):
        """List cards."""
        if machine != "web":
            raise NotFoundError(f"there is no machine {machine!r}")
        return [NIC]

    async def up(self, name, *, report):
        """Bring up."""
        self._check(name)
        report(Progress("network", name, "bridge"))
        self.asked.append(("up", name))

    async def down(self, name, *, report):
        """Take down."""
        self._check(name)
        self.asked.append(("down", name))


@attrs.define(eq=False)
class FakeSupervisor:
    """What `qorch.api.protocol.Supervisor` says, in memory."""

    state: StateDir
    machines: set = attrs.field(factory=lambda: {"web", "slow", "broken", "crash"})
    calls: list = attrs.field(factory=list)
    release: trio.Event = attrs.field(factory=trio.Event)
    entered: trio.Event = attrs.field(factory=trio.Event)
    consoles: set = attrs.field(factory=set)
    listeners: set = attrs.field(factory=set)
    machine_rows: int = 1
    report: object = None
    storage: object = None
    networks: object = attrs.field(factory=lambda: FakeNetworks([]))

    @property
    def block(self):
        """See the protocol."""
        return FakeBlock(self)

    def find_machines(self):
        """See the protocol."""
        return [ROW] * self.machine_rows

    async def show_machine(self, name):
        """See the protocol."""
        self._check(name)
        return {**DETAILS, "name": name}

    async def plan(self, spec, *, report, down=False):
        """See the protocol."""
        action = "remove" if down else "create"
        if not down:
            report(NO_KVM)
        return [Change(action, "vm", name, f"{vm.cpu.count} CPU") for name, vm in spec.vms.items()]

    async def up(self, spec, *, report, wait=None, restart=False):
        """See the protocol."""
        self.calls.append(("up", sorted(spec.vms), wait, restart))
        report(Progress("network", "default", "create bridge"))
        for name in spec.vms:
            await self._act(name, report, "start")
        report(NO_KVM)
        self.calls.append("up done")

    async def down(self, spec, *, report, volumes=False):
        """See the protocol."""
        self.calls.append(("down", sorted(spec.vms), volumes))
        raise NetError("the bridge is busy", "look who uses it")

    async def start_machine(self, name, *, report, wait=None):
        """See the protocol."""
        self.calls.append(("start", name, wait))
        await self._act(name, report, "start")
        self.calls.append(("started", name))

    async def stop_machine(self, name, *, report, grace=None):
        """See the protocol."""
        self.calls.append(("stop", name, grace))
        await self._act(name, report, "stop")

    async def restart_machine(self, name, *, report, grace=None, wait=None):
        """See the protocol."""
        self.calls.append(("restart", name, grace, wait))
        await self._act(name, report, "restart")

    async def kill_machine(self, name, *, report):
        """See the protocol."""
        self.calls.append(("kill", name))
        await self._act(name, report, "kill")

    async def remove_machine(self, name, *, report, volumes=False):
        """See the protocol."""
        self.calls.append(("rm", name, volumes))
        await self._act(name, report, "remove")

    @contextlib.contextmanager
    def open_console(self, name):
        """See the protocol."""
        self._check(name)
        send, receive = trio.open_memory_channel(16)
        self.consoles.add(send)
        try:
            with send, receive:
                yield Watcher(self.print_console, receive)
        finally:
            self.consoles.discard(send)

    def print_console(self, data):
        """Print on the console; Ctrl-D ends it."""
        for send in self.consoles.copy():
            if data == b"\x04":
                send.close()
            else:
                with contextlib.suppress(trio.ClosedResourceError, trio.WouldBlock):
                    send.send_nowait(data)

    def find_log(self, name):
        """See the protocol."""
        self._check(name)
        return self.state.machine_data(name) / "console.log"

    @contextlib.contextmanager
    def open_events(self, machine=None):
        """See the protocol."""
        if machine is not None:
            self._check(machine)
        send, receive = trio.open_memory_channel(16)
        self.listeners.add(send)
        try:
            with send, receive:
                send.send_nowait(
                    {"time": 1.5, "machine": machine or "web", "event": "HELLO", "n": 1}
                )
                yield receive
        finally:
            self.listeners.discard(send)

    def _check(self, name):
        if name not in self.machines:
            raise NotFoundError(f"there is no machine {name!r}", "machines: web")

    async def _act(self, name, report, step):
        self._check(name)
        self.report = report
        report(Progress("vm", name, step))
        if name == "slow":
            self.entered.set()
            await self.release.wait()
        if name == "broken":
            raise MachineError("QEMU died at once: no such device", "correct the device")
        if name == "crash":
            raise RuntimeError("secret\nof the house")
        if name == "both":
            raise InputError.from_problems([Problem("a", "is bad", "x"), Problem("b", "too", "x")])


@attrs.define(eq=False)
class FakeBlock:
    """What `qorch.api.protocol.Block` says: every request is remembered as it came."""

    supervisor: FakeSupervisor

    def find_snapshots(self, name):
        """See the protocol."""
        self.supervisor._check(name)
        return [{"name": "s1", "parent": None}]

    async def find_jobs(self):
        """See the protocol."""
        return [{"machine": "web", "job": "qorch-move-disk0", "percent": 45}]

    def __getattr__(self, verb):
        async def do(name, *args, report=None, **options):
            self.supervisor.calls.append((verb, name, *args, options))
            if report is None:
                self.supervisor._check(name)
            else:
                await self.supervisor._act(name, report, verb)

        return do


async def run_fake(supervisor, listener, started=lambda _activity: None, *, linger=None):
    """Serve until cancelled, or until nobody wanted anything for `linger` seconds."""
    async with trio.open_nursery() as nursery:
        activity: Activity = await nursery.start(run_api, supervisor, listener)
        started(activity)
        await activity.wait_quiet(math.inf if linger is None else linger)
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def open_fake(state, listener):
    """Serve in a thread; yields the supervisor and a function that runs others in its loop."""
    supervisor = FakeSupervisor(state)
    ready = threading.Event()
    token, scope, failure = None, trio.CancelScope(), []

    async def serve():
        nonlocal token
        token = trio.lowlevel.current_trio_token()
        with scope:
            await run_fake(supervisor, listener, lambda _activity: ready.set())

    def run():
        try:
            trio.run(serve)
        except BaseException as error:  # noqa: BLE001  raised in the test
            failure.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield supervisor, functools.partial(trio.from_thread.run_sync, trio_token=token)
    finally:
        if not failure:
            trio.from_thread.run_sync(scope.cancel, trio_token=token)
        thread.join()
        if failure:
            raise failure[0]


def main():
    """Take the words that `start_supervisor` says."""
    words = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    fds = dict(part.split("=") for part in words["--inherit"].split(","))
    state = StateDir(Path(words["--run"]), Path(words["--data"]))
    (state.data / "pids").open("a").write(f"{os.getpid()}\n")
    if (state.data / "die").exists():
        sys.exit("qemu-system-x86_64 is not installed")
    listener = socket.socket(fileno=int(fds["api"]))
    linger = float(os.environ.get("FAKE_LINGER", "60"))
    trio.run(functools.partial(run_fake, FakeSupervisor(state), listener, linger=linger))


if __name__ == "__main__":
    main()
