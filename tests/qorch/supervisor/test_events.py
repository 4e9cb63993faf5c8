import pytest

from qorch.supervisor.events import Events

BACKLOG = 1000


async def collect(channel):
    """What a listener has got."""
    found = []
    while channel.statistics().current_buffer_used:
        found.append(await channel.receive())
    return found


async def test_every_listener_gets_every_event():
    """Each its own, from when it began to listen, all of them or those of one machine."""
    events = Events()
    events.emit_nowait("web", "EARLY", {})
    with events.listen() as everything, events.listen("web") as web:
        events.emit_nowait("web", "STOP", {"why": "asked"})
        events.emit_nowait("db", "STOP", {})
        assert [e["machine"] for e in await collect(everything)] == ["web", "db"]
        (event,) = await collect(web)
    assert event.pop("time") > 0
    assert event == {"machine": "web", "event": "STOP", "why": "asked"}


async def test_a_slow_listener_is_told_how_many_it_lost():
    """Before the next event it gets; a listener that reads loses nothing."""
    events = Events()
    with events.listen() as slow, events.listen() as quick:
        for number in range(BACKLOG + 3):
            events.emit_nowait("web", "TICK", {"number": number})
            assert (await quick.receive())["number"] == number
        assert (await slow.receive())["number"] == 0
        assert (await slow.receive())["number"] == 1
        events.emit_nowait("web", "TICK", {"number": "next"})
        events.emit_nowait("web", "TICK", {"number": "last"})
        got = await collect(slow)
        assert got[-2] == {"event": "EVENTS_LOST", "count": 3}
        assert got[-1]["number"] == "next"
        events.emit_nowait("web", "TICK", {"number": "after"})
        assert [event.get("count") for event in await collect(slow)] == [1, None]


async def test_who_has_left_gets_nothing():
    """Leaving the block closes the channel and costs the others nothing."""
    events = Events()
    with pytest.raises(ZeroDivisionError), events.listen():
        raise ZeroDivisionError
    assert events._listeners == set()
    events.emit_nowait("web", "STOP", {})


async def test_who_has_closed_their_end_harms_nobody():
    """A receiver that was closed before its block ended: the others are told all the same."""
    events = Events()
    with events.listen() as closed, events.listen() as other:
        closed.close()
        events.emit_nowait("web", "STOP", {})
        assert [event["event"] for event in await collect(other)] == ["STOP"]
