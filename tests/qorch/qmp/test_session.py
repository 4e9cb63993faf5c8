"""The protocol, without I/O."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qorch.qmp import Event, Failure, Greeting, ProtocolError, Reply, Session, State

HELLO = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7},'
    b' "package": "Debian 1:7.2"}, "capabilities": ["oob"]}}\r\n'
)
GREETING = Greeting(version=(7, 2, 22), package="Debian 1:7.2", capabilities=("oob",))
STOP = b'{"timestamp": {"seconds": 5, "microseconds": 250000}, "event": "STOP"}\r\n'
STOPPED = Event(name="STOP", timestamp=5.25)


def ready_session(**options):
    """Return a session that has negotiated; the next id is 2."""
    session = Session(**options)
    list(session.receive(HELLO))
    number, _ = session.request("qmp_capabilities")
    list(session.receive(b'{"return": {}, "id": %d}\n' % number))
    assert session.state is State.READY
    return session


def test_conversation():
    """Greeting, negotiation, a reply, a failure and an event come out as values."""
    session = Session()
    assert list(session.receive(HELLO)) == [GREETING]
    assert session.state is State.NEGOTIATING
    assert session.request("qmp_capabilities") == (
        1,
        b'{"execute":"qmp_capabilities","id":1}\n',
    )
    assert list(session.receive(b'{"return": {}, "id": 1}\r\n')) == [Reply(id=1, value={})]
    assert session.state is State.READY
    assert session.request("device_del", {"id": "é"}) == (
        2,
        b'{"execute":"device_del","arguments":{"id":"\\u00e9"},"id":2}\n',
    )
    session.request("stop")
    answers = (
        b'{"id": 3, "return": 7}\n'
        + STOP
        + b'{"id": 2, "error": {"class": "DeviceNotFound", "desc": "no"}}\n'
    )
    assert list(session.receive(answers)) == [
        Reply(id=3, value=7),
        STOPPED,
        Failure(id=2, error_class="DeviceNotFound", text="no"),
    ]
    assert session.receive_eof() == ()


@settings(deadline=None)
@given(st.lists(st.integers(0, 400), max_size=30))
def test_cut_anywhere(cuts):
    """Where the bytes are cut changes nothing."""
    session = Session()
    number, script = 1, STOP + HELLO + b"\r\n \n" + STOP
    places = sorted({min(cut, len(script)) for cut in cuts} | {0, len(script)})
    found = []
    for start, end in itertools.pairwise(places):
        found += session.receive(script[start:end])
    assert found == [STOPPED, GREETING, STOPPED]
    number, _ = session.request("qmp_capabilities")
    reply = b'{"return": "\xc3\xa9", "id": %d}\n' % number
    for byte in reply:
        found += session.receive(bytes([byte]))
    assert found[3:] == [Reply(id=1, value="é")]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_garbage(data):
    """Whatever comes is either taken or a ProtocolError; nothing else is raised."""
    session = ready_session()
    try:
        list(session.receive(data + b"\n"))
    except ProtocolError:
        assert session.state is State.CLOSED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
half_right = st.fixed_dictionaries(
    {},
    optional={
        "QMP": json_values | st.just({"version": {"qemu": {"major": 1e999}}, "capabilities": []}),
        "event": json_values,
        "timestamp": json_values
        | st.fixed_dictionaries({"seconds": json_values, "microseconds": json_values}),
        "data": json_values,
        "return": json_values,
        "error": json_values | st.fixed_dictionaries({"class": json_values, "desc": json_values}),
        "id": json_values,
    },
)


@settings(deadline=None)
@given(half_right)
def test_any_half_right_message(message):
    """JSON that looks like QMP is taken or refused, in every state alike."""
    line = json.dumps(message).encode() + b"\n"
    for session in (Session(), ready_session()):
        try:
            list(session.receive(line))
        except ProtocolError:
            assert session.state is State.CLOSED


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[]",
        b"7",
        b"{}",
        b'{"return": 1',
        b'{"return": "\xff"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"return": {}}',
        b'{"return": {}, "id": 2}',
        b'{"return": {}, "id": 1}',
        b'{"return": {}, "id": [1]}',
        b'{"return": {}, "id": true}',
        b'{"return": {}, "id": "1"}',
        b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}',
        b'{"error": {"desc": "no class"}, "id": 1}',
        b'{"error": "no", "id": 1}',
        b'{"event": "STOP"}',
        b'{"event": 7, "timestamp": {"seconds": 1, "microseconds": 1}}',
        b'{"event": "STOP", "timestamp": {"seconds": "x", "microseconds": 1}}',
        b'{"event": "STOP", "data": 1, "timestamp": {"seconds": 1, "microseconds": 1}}',
        HELLO.strip(),
    ],
)
def test_bad_line(line):
    """A line that is not QMP, or not its turn, closes the session and is shown in the error."""
    session = ready_session()
    good = []
    with pytest.raises(ProtocolError) as caught:
        good.extend(session.receive(STOP + line + b"\n" + STOP))
    assert session.state is State.CLOSED
    assert caught.value.line == line
    assert len(caught.value.message) < 1000
    with pytest.raises(RuntimeError):
        session.receive(STOP)
    with pytest.raises(RuntimeError):
        session.request("stop")


@pytest.mark.parametrize(
    "line",
    [
        b'{"return": {}, "id": 1}',
        b'{"error": {"class": "GenericError", "desc": ""}, "id": 1}',
        b'{"QMP": {}}',
        b'{"QMP": {"version": {}, "capabilities": []}}',
        b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}',
        b'{"QMP": {"version": {"qemu": []}, "capabilities": []}}',
    ],
)
def test_bad_greeting(line):
    """Nothing but events and a whole greeting is taken before the greeting."""
    session = Session()
    with pytest.raises(ProtocolError):
        list(session.receive(line + b"\n"))
    assert session.state is State.CLOSED


def test_good_before_bad():
    """What came before a bad line is still handed out."""
    messages = ready_session().receive(STOP + b"garbage\n")
    assert next(messages) == STOPPED
    with pytest.raises(ProtocolError):
        next(messages)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_long_line(end):
    """A line over the bound is refused, be it complete or not."""
    session = ready_session(max_line=200)
    assert list(session.receive(STOP)) == [STOPPED]
    with pytest.raises(ProtocolError, match="200 bytes"):
        list(session.receive(b" " * 201 + end))


def test_requests_wait_for_their_turn():
    """Before the greeting nothing can be sent, before the negotiation only that."""
    session = Session()
    with pytest.raises(RuntimeError, match="waiting for the greeting"):
        session.request("qmp_capabilities")
    list(session.receive(HELLO))
    with pytest.raises(RuntimeError, match="negotiating"):
        session.request("stop")
    session.request("qmp_capabilities")


def test_refused_negotiation():
    """A refused capability can be tried again."""
    session = Session()
    list(session.receive(HELLO))
    session.request("qmp_capabilities", {"enable": ["x"]})
    refusal = b'{"id": 1, "error": {"class": "GenericError", "desc": "x"}}\n'
    assert list(session.receive(refusal)) == [Failure(id=1, error_class="GenericError", text="x")]
    assert session.state is State.NEGOTIATING
    session.request("qmp_capabilities")


def test_eof_names_what_was_in_flight():
    """EOF tells which commands were never answered, in the order they were sent."""
    session = ready_session()
    session.request("stop")
    unsent, _ = session.request("query-status")
    session.request("cont")
    session.withdraw(unsent)
    list(session.receive(b'{"half": '))
    assert session.receive_eof() == ("stop", "cont")
    assert session.state is State.CLOSED


@pytest.mark.parametrize("value", [object(), {1}, b"bytes"])
def test_arguments_that_are_not_json(value):
    """What cannot be sent is refused and leaves nothing in flight."""
    session = ready_session()
    with pytest.raises(TypeError):
        session.request("stop", {"x": value})
    assert session.receive_eof() == ()
