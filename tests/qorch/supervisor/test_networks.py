"""Repairs in the background: what fails there is told, and ends nothing."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from qorch.errors import NotFoundError
from qorch.paths import StateDir
from qorch.state import NetworkDefinition, Store
from qorch.supervisor.definitions import Definitions
from qorch.supervisor.events import Events
from qorch.supervisor.network_verbs import NetworkVerbs
from qorch.supervisor.networks import Networks
from qorch.units import Name
from qorch_net.errors import NetError
from qorch_net.plan import Mode, NetworkPlan, make_bridge_mac

LAN = Name("lan")


@pytest.fixture
def networks(tmp_path):
    """The networks of a state directory whose run directory cannot be made; `lan` is up."""
    state = StateDir.from_directory(tmp_path)
    state.run.write_text("in the way")
    send, _receive = trio.open_memory_channel(0)
    store = Store(state)
    networks = Networks(state, Path("dnsmasq"), send, store, Definitions(store), Events())
    plan = NetworkPlan(
        name="lan",
        owner=state.owner,
        mode=Mode.ISOLATED,
        bridge="br-lan",
        mac=make_bridge_mac(state.owner, "lan"),
        gateway=IPv4Interface("192.168.133.1/24"),
        domain="lan",
    )
    networks.put(LAN, NetworkDefinition(version=1, plan=plan))
    networks.up[LAN] = object()
    return networks


async def test_a_repair_that_meets_a_broken_directory_is_told(networks):
    """An OSError is the network's trouble, told once."""
    with networks._events.listen() as told:
        assert await networks.repair_links([LAN], known=()) == {LAN}
        event = await told.receive()
        assert (event["event"], event["network"]) == ("NETWORK_BROKEN", "lan")
        assert str(networks.state.run) in event["error"]
        assert await networks.repair_links([LAN], known=[LAN]) == {LAN}
        assert told.statistics().current_buffer_used == 0


async def test_a_repair_does_not_bring_back_what_was_removed_meanwhile(networks, nursery):
    """It waits for its turn, and a removal comes before it."""
    done = []

    async def repair():
        done.append(await networks.repair_links([LAN], known=()))

    async with networks._turn:
        nursery.start_soon(repair)
        await wait_all_tasks_blocked()
        networks.put(LAN, None)
    with trio.fail_after(60):
        while not done:
            await trio.lowlevel.checkpoint()
    assert done == [set()]
    assert networks.up == {}


async def test_what_is_refreshed_may_be_removed_meanwhile(networks, nursery):
    """By an `up` of somebody else that failed, which undoes what it did."""
    done = trio.Event()

    async def tidy():
        await networks.tidy(lambda _progress: None)
        done.set()

    async with networks._turn:
        nursery.start_soon(tidy)
        await wait_all_tasks_blocked()
        networks.put(LAN, None)
    with trio.fail_after(60):
        await done.wait()
    with pytest.raises(NetError, match="network lan was removed meanwhile"):
        networks.plan_of(LAN)


@pytest.mark.parametrize("verb", ["up", "down"])
async def test_a_verb_that_waits_may_find_its_network_gone(networks, nursery, verb):
    """That is what it says, as if it had come later."""
    changing, done = trio.Lock(), trio.Event()
    verbs = NetworkVerbs(networks, networks._machines, None, changing)

    async def run():
        with pytest.raises(NotFoundError, match="there is no network 'lan'"):
            await getattr(verbs, verb)("lan")
        done.set()

    async with changing:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        networks.put(LAN, None)
    with trio.fail_after(60):
        await done.wait()
