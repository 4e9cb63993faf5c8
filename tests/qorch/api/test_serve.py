"""Clients that leave, clients that are slow, many clients, and the end."""

import functools
import json
import os

import pytest
import trio

from qorch.api import serve
from qorch.api.activity import Activity
from qorch.progress import Progress

START = b"POST /v1/machines/slow/start HTTP/1.1\r\nHost: q\r\nContent-Length: 0\r\n\r\n"


async def read_until(stream, end):
    """Read until the data contains `end`; what was read."""
    data = b""
    with trio.fail_after(20):
        while end not in data:
            more = await stream.receive_some()
            assert more, data
            data += more
    return data


async def wait_idle(activity):
    """Wait until nothing is in flight."""
    with trio.fail_after(20):
        await activity.wait_quiet(0)


async def test_client_that_leaves_cancels_nothing(api):
    """What was asked for is done, although the client left in the middle."""
    stream = await api.send(START)
    await read_until(stream, b'"step": "start"')
    await stream.aclose()
    assert api.activity.in_flight >= 1
    api.supervisor.release.set()
    await wait_idle(api.activity)
    assert api.supervisor.calls == [("start", "slow", None), ("started", "slow")]


async def test_work_that_outlives_its_verb_may_tell(api):
    """What goes on in the background after a verb has ended tells of its steps to nobody."""
    stream = await api.send(START)
    api.supervisor.release.set()
    await read_until(stream, b'"type": "done"')
    await wait_idle(api.activity)
    await stream.aclose()
    api.supervisor.report(Progress("vm", "slow", "later"))


async def test_client_that_leaves_at_once(api):
    """A client that does not even wait for the head of the answer gets its machine started."""
    stream = await api.send(START)
    await api.supervisor.entered.wait()
    await stream.aclose()
    api.supervisor.release.set()
    await wait_idle(api.activity)
    assert ("started", "slow") in api.supervisor.calls


@pytest.mark.parametrize("path", ["events", "machines/web/console", "machines/web/log?follow=true"])
async def test_streams_end_with_their_client(api, path):
    """A stream that says nothing ends as soon as its client leaves."""
    api.supervisor.find_log("web").parent.mkdir(parents=True)
    stream = await api.send(f"GET /v1/{path} HTTP/1.1\r\nHost: q\r\n\r\n".encode())
    await read_until(stream, b"\r\n\r\n")
    assert api.activity.in_flight == 1
    await stream.aclose()
    await wait_idle(api.activity)


async def test_end_tells_everybody(api, capfd):
    """At the end verbs are cancelled and say so, and streams and connections end, quickly."""
    verb = await api.send(START.replace(b"1.1", b"1.0"))
    events = await api.send(b"GET /v1/events HTTP/1.0\r\n\r\n")
    console = await api.send(b"GET /v1/machines/web/console HTTP/1.0\r\n\r\n")
    typing = await api.send(
        b"POST /v1/machines/web/console HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    idle = await api.connect()
    for stream, words in ((verb, b'"start"'), (events, b"HELLO"), (console, b"\r\n\r\n")):
        await read_until(stream, words)
    start = trio.current_time()
    api.stop()
    await api.ended.wait()
    assert trio.current_time() - start < serve.GRACE
    last = json.loads((await verb.receive_some()).splitlines()[-1])
    assert last["error"]["message"] == "the supervisor is shutting down"
    for stream in (events, console, idle):
        assert await stream.receive_some() == b""
    for stream in (verb, events, console, typing, idle):
        await stream.aclose()
    assert capfd.readouterr() == ("", "")


async def test_end_with_a_client_that_does_not_read(api, monkeypatch):
    """A client that stopped reading, with megabytes to come, does not hold up the end."""
    log = api.supervisor.find_log("web")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (8 << 20))
    stream = await api.send(b"GET /v1/machines/web/log HTTP/1.1\r\nHost: q\r\n\r\n")
    await stream.receive_some(1)
    monkeypatch.setattr("qorch.api.serve.GRACE", 0.01)
    api.stop()
    with trio.fail_after(10):
        await api.ended.wait()
    await stream.aclose()


async def test_request_at_the_end(api, monkeypatch):
    """A request that comes while a verb is still cleaning up is sent to the next supervisor."""
    cleaned_up = trio.Event()

    async def start_machine(self, name, *, report, wait):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await cleaned_up.wait()

    monkeypatch.setattr(type(api.supervisor), "start_machine", start_machine)
    kept = await api.send(b"GET /v1/machines HTTP/1.1\r\nHost: q\r\n\r\n")
    await read_until(kept, b'"uptime"')
    verb = await api.send(START)
    while api.activity.in_flight < 2:
        await trio.testing.wait_all_tasks_blocked()
    api.stop()
    await trio.testing.wait_all_tasks_blocked()
    await kept.send_all(b"GET /v1/machines HTTP/1.1\r\nHost: q\r\n\r\n")
    assert b" 503 " in await read_until(kept, b"shutting down")
    cleaned_up.set()
    await api.ended.wait()
    await kept.aclose()
    await verb.aclose()


async def test_many_clients(api):
    """Of 200 clients at once half leave in the middle; the others are all answered."""
    api.supervisor.machine_rows = 1000
    answers = []

    async def ask():
        answers.append((await api.ask("GET", "/v1/machines")).status)

    async def leave(number):
        stream = await api.send(b"GET /v1/machines HTTP/1.1\r\nHost: q\r\n\r\n"[: 10 + number])
        await stream.aclose()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask)
                nursery.start_soon(leave, number)
    assert answers == [200] * 100
    await wait_idle(api.activity)


async def test_nothing_is_kept_for_clients_that_left(api):
    """A connection that its client closed is closed here at once, whatever it was used for."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    await (await api.connect()).aclose()
    await (await api.send(b"GET /v1/mach")).aclose()
    await api.ask("GET", "/v1/machines")
    kept = await api.send(b"GET /v1/machines HTTP/1.1\r\nHost: q\r\n\r\n")
    await read_until(kept, b'"uptime"')
    await kept.aclose()
    await (await api.send(START)).aclose()
    with trio.fail_after(serve.KEEP_ALIVE / 2):
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: PTH208
            await trio.lowlevel.checkpoint()


async def test_quiet_needs_time(autojump_clock):
    """It is quiet once nothing has gone on for as long as asked, streams included."""
    activity = Activity()
    start = trio.current_time()

    async def work():
        await trio.sleep(3)
        with activity.busy():
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await activity.wait_quiet(5)
    assert trio.current_time() - start == pytest.approx(18)


async def test_quiet_from_the_beginning(autojump_clock):
    """Where nothing ever happens the time counts from the question."""
    start = trio.current_time()
    await functools.partial(Activity().wait_quiet, 5)()
    assert trio.current_time() - start == pytest.approx(5)
