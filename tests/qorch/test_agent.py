import json
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import trio

from qorch.agent import open_agent
from qorch.errors import AgentError
from qorch.sockets import bind_unix

ANSWERS = {
    "guest-ping": {},
    "guest-fsfreeze-freeze": 2,
    "guest-fsfreeze-thaw": 2,
    "guest-fsfreeze-status": "frozen",
    "guest-network-get-interfaces": [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
        {"name": "eth0", "ip-addresses": [{"ip-address": "fe80::1", "prefix": 64}]},
        {"name": "eth1"},
    ],
}


async def be_agent(stream, before=b""):
    """Answer as qemu-ga does, after what an earlier conversation left."""
    await stream.send_all(before)
    buffer = b""
    async for data in stream:
        buffer += data
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            request = json.loads(line.removeprefix(b"\xff"))
            command = request["execute"]
            if command == "guest-sync-delimited":
                answer = {"return": request["arguments"]["id"]}
                await stream.send_all(b"\xff")
            elif command in ANSWERS:
                answer = {"return": ANSWERS[command]}
            else:
                answer = {"error": {"class": "CommandNotFound", "desc": f"no {command}"}}
            await stream.send_all(json.dumps(answer).encode() + b"\n")


@asynccontextmanager
async def open_fake(path, serve):
    """A socket on which `serve` is the guest."""
    with bind_unix(path) as listener:
        listener.setblocking(False)

        async def accept():
            sock, _ = await trio.socket.from_stdlib_socket(listener).accept()
            async with trio.SocketStream(sock) as stream:
                await serve(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            yield
            nursery.cancel_scope.cancel()


async def test_commands_and_their_answers(tmp_path):
    """Ping, freeze, thaw, status and addresses."""
    async with open_fake(tmp_path / "s", be_agent), open_agent(tmp_path / "s") as agent:
        await agent.ping()
        assert (await agent.freeze(), await agent.is_frozen(), await agent.thaw()) == (2, True, 2)
        assert await agent.find_addresses() == {
            "lo": [ip_address("127.0.0.1")],
            "eth0": [ip_address("fe80::1")],
            "eth1": [],
        }


async def test_what_the_guest_refuses_says_why(tmp_path):
    """In the agent's own words."""
    async with open_fake(tmp_path / "s", be_agent), open_agent(tmp_path / "s") as agent:
        with pytest.raises(AgentError, match="refuses guest-shutdown: no guest-shutdown"):
            await agent.execute("guest-shutdown", mode="halt")


@pytest.mark.parametrize(
    "rest", [b'{"return": 1}\n', b'\xff{"return": 5}\n', b'half a line{"', b'\xff[]\n\xff"x"\n']
)
async def test_what_others_left_is_skipped(tmp_path, rest):
    """Answers to what was asked before, whole or cut."""

    async def serve(stream):
        await be_agent(stream, rest)

    async with open_fake(tmp_path / "s", serve), open_agent(tmp_path / "s") as agent:
        await agent.ping()


async def test_an_agent_that_is_silent_costs_no_more_than_its_deadline(tmp_path, autojump_clock):
    """A guest that is up without an agent, or hangs."""

    async def serve(_stream):
        await trio.sleep_forever()

    async with open_fake(tmp_path / "s", serve):
        with pytest.raises(AgentError, match="no guest agent answers"):
            async with open_agent(tmp_path / "s"):
                pass


async def test_an_agent_that_goes_away_is_an_error(tmp_path):
    """And no hang."""

    async def serve(stream):
        await stream.receive_some(1000)

    async with open_fake(tmp_path / "s", serve):
        with pytest.raises(AgentError, match="the connection to the guest agent"):
            async with open_agent(tmp_path / "s"):
                pass


async def test_without_a_socket_there_is_no_agent(tmp_path):
    """The machine has ended."""
    with pytest.raises(AgentError, match="No such file"):
        async with open_agent(tmp_path / "s"):
            pass


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b'{"x": 1}\n', b"[" * 5000 + b"\n"])
async def test_nonsense_is_an_error(tmp_path, line):
    """An agent that answers with something else."""

    async def serve(stream):
        request = json.loads((await stream.receive_some(1000)).removeprefix(b"\xff"))
        answer = {"return": request["arguments"]["id"]}
        await stream.send_all(b"\xff" + json.dumps(answer).encode() + b"\n")
        await stream.receive_some(1000)
        await stream.send_all(line)

    async with open_fake(tmp_path / "s", serve), open_agent(tmp_path / "s") as agent:
        with pytest.raises(AgentError, match="guest-ping"):
            await agent.ping()


@pytest.mark.parametrize(
    ("answer", "verb"),
    [
        ({"return": None}, "thaw"),
        ({"return": "many"}, "freeze"),
        ({"error": 5}, "thaw"),
        (
            {"return": [{"name": "eth0", "ip-addresses": [{"ip-address": "here"}]}]},
            "find_addresses",
        ),
        ({"return": [5]}, "find_addresses"),
    ],
)
async def test_an_answer_of_another_kind_is_an_error(tmp_path, answer, verb):
    """What a guest says is believed in nothing."""

    async def serve(stream):
        request = json.loads((await stream.receive_some(1000)).removeprefix(b"\xff"))
        synced = {"return": request["arguments"]["id"]}
        await stream.send_all(b"\xff" + json.dumps(synced).encode() + b"\n")
        await stream.receive_some(1000)
        await stream.send_all(json.dumps(answer).encode() + b"\n")

    async with open_fake(tmp_path / "s", serve), open_agent(tmp_path / "s") as agent:
        with pytest.raises(AgentError, match="guest-"):
            await getattr(agent, verb)()
