"""Requests and answers, well-formed and hostile."""

import json

import pytest
import trio

from qorch.api import body

DOCUMENT = {"text": '[vm.web]\nkernel = "k"\n', "directory": "/tmp"}  # noqa: S108  never touched


def lines(answer):
    """Parse a body with one JSON object per line."""
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_rows(api):
    """Questions are answered in JSON."""
    answer = await api.ask("GET", "/v1/machines")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json[0]["ips"] == ["192.168.133.5"]


async def test_plan(api):
    """A plan is a list of changes; who asks for the notes gets both."""
    changes = (await api.ask("POST", "/v1/plan", DOCUMENT)).json
    assert [change["action"] for change in changes] == ["create"]
    note = "KVM is not there: it runs under TCG"
    assert (await api.ask("POST", "/v1/plan", DOCUMENT | {"notes": True})).json == {
        "changes": changes,
        "notes": [{"type": "note", "kind": "vm", "name": "web", "message": note}],
    }


async def test_progress_lines(api):
    """A verb's answer is one JSON object per line, and the last says how it ended."""
    answer = await api.ask("POST", "/v1/machines/web/start")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert lines(answer) == [
        {"type": "step", "kind": "vm", "name": "web", "step": "start"},
        {"type": "done"},
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/v1/machines/", 404, "not-found"),
        ("GET", "/v1/machines/nobody", 404, "not-found"),
        ("GET", "/v1/machines/..", 404, "not-found"),
        ("GET", "/v1/machines/..%2f..%2fetc%2fpasswd/log", 404, "not-found"),
        ("GET", "/v1/machines/..%2fweb", 404, "not-found"),
        ("GET", "/v1/machines/%00", 404, "not-found"),
        ("GET", "/v1/machines/%ff%fe", 404, "not-found"),
        ("GET", "/v1/machines/%zz", 404, "not-found"),
        ("GET", "/v1/machines/" + "a" * 10_000, 404, "not-found"),
        ("POST", "/v1/machines/..%2fweb/start", 404, "not-found"),
        ("GET", "/v1/events?machine=nobody", 404, "not-found"),
        ("GET", "/v1/machines/nobody/console", 404, "not-found"),
        ("POST", "/v1/machines/nobody/console", 404, "not-found"),
        ("POST", "/v1/machines", 405, "input"),
        ("BREW", "/v1/machines", 405, "input"),
        ("GET", "/v1/machines/web/log?lines=-1", 400, "input"),
        ("GET", "/v1/machines/web/log?lines=1e9", 400, "input"),
        ("GET", "/v1/machines/web/log?lines=%D9%A3", 400, "input"),
        ("GET", "/v1/machines/web/log?lines=" + "9" * 5000, 400, "input"),
        ("GET", "/v1/machines/web/log?follow=maybe", 400, "input"),
    ],
)
async def test_wrong_requests(api, method, path, status, kind):
    """What names nothing, or asks for nonsense, is refused as such."""
    answer = await api.ask(method, path)
    assert (answer.status, answer.error["kind"]) == (status, kind)
    assert answer.error["message"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "text: is missing"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"1" * 5000, "the body is not JSON"),
        (b"[]", "the body is not a JSON object"),
        (b"null", "the body is not a JSON object"),
        ({}, "text: is missing\ndirectory: is missing"),
        ({**DOCUMENT, "text": 5}, "text: is not a string"),
        ({**DOCUMENT, "text": None}, "text: is not a string"),
        ({**DOCUMENT, "text": "\ud800"}, "text: is not valid Unicode"),
        ({**DOCUMENT, "directory": "etc"}, "directory: is not an absolute path"),
        ({**DOCUMENT, "directory": "/\0"}, "directory: is not an absolute path"),
        ({**DOCUMENT, "restart": 1}, "restart: is not true or false"),
        ({**DOCUMENT, "wait": True}, "wait: is not a number of seconds"),
        ({**DOCUMENT, "wait": "5"}, "wait: is not a number of seconds"),
        ({**DOCUMENT, "wait": -1}, "wait: is no reasonable number of seconds"),
        ({**DOCUMENT, "wait": 10**400}, "wait: is no reasonable number of seconds"),
        ({**DOCUMENT, "wait": float("nan")}, "wait: is no reasonable number of seconds"),
        ({**DOCUMENT, "wait": float("inf")}, "wait: is no reasonable number of seconds"),
        ({**DOCUMENT, "wiat": 1}, "wiat: is not known here"),
        ({**DOCUMENT, "wait": "", "restart": 0}, "wait: is not a number of seconds\nrestart: is"),
        ({**DOCUMENT, "text": "[vm.web"}, "not TOML"),
        ({**DOCUMENT, "text": "a=" + "[" * 50_000}, ""),
        ({**DOCUMENT, "text": "[vm.WEB]"}, "no valid host name"),
    ],
)
async def test_wrong_bodies(api, data, message):
    """Bodies of a wrong form are refused with every problem found, and nothing is done."""
    answer = await api.ask("POST", "/v1/up", data)
    assert (answer.status, answer.error["kind"]) == (400, "input")
    assert message in answer.error["message"]
    assert api.supervisor.calls == []


@pytest.mark.parametrize("length", [body.LARGEST + 1, 1 << 40])
async def test_large_body(api, length):
    """A body that is too large is refused, however much of it comes."""
    stream = await api.send(
        b"POST /v1/up HTTP/1.1\r\nHost: q\r\nContent-Length: %d\r\n\r\n" % length
    )
    assert (await send_endlessly(api, stream, b"x" * 65536)).status == 413


async def test_endless_chunks(api):
    """Without a length, too, an endless body is refused and its connection closed."""
    head = b"POST /v1/machines/web/start HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await send_endlessly(api, await api.send(head), b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    assert answer.status == 413
    assert "larger than 1 MiB" in answer.error["message"]


@pytest.mark.parametrize("path", [b"/v1/nothing", b"/v1/machines/nobody/console"])
async def test_body_of_a_refused_request(api, path):
    """A request that is refused before its body is read does not wait for the body to end."""
    head = b"POST %b HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    answer = await send_endlessly(api, await api.send(head), b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    assert answer.status == 404


async def send_endlessly(api, stream, data):
    """Send until the server has had enough, and read its answer."""
    with trio.fail_after(20):
        try:
            while True:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return await api.read(stream)


async def test_body_that_does_not_come(api, monkeypatch):
    """A body that stops in the middle is given up after a while."""
    monkeypatch.setattr(body, "PATIENCE", 0.01)
    stream = await api.send(b"POST /v1/up HTTP/1.1\r\nHost: q\r\nContent-Length: 9\r\n\r\n{")
    answer = await api.read(stream)
    assert answer.status == 408


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET /v1/machines HTTP/9.9\r\n\r\n",
        b"GET \xff HTTP/1.1\r\nHost: q\r\n\r\n",
        b"GET /\xc3\xbc HTTP/1.1\r\nHost: q\r\n\r\n",
        b"GET /v1/machines HTTP/1.1\r\n\r\n",
        b"POST /v1/up HTTP/1.1\r\nHost: q\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/up HTTP/1.1\r\nHost: q\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/up HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 50,
        b"GET / HTTP/1.1\r\nHost: q\r\nUpgrade: h2c\r\nHTTP2-Settings: ?\r\n\r\n",
        (
            b"GET /v1/events HTTP/1.1\r\nHost: q\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        ),
    ],
)
async def test_garbage(api, raw, caplog):
    """Bytes that are no request do no harm, and the next client is served."""
    stream = await api.send(raw)
    await stream.send_eof()
    await api.read_bytes(stream)
    assert (await api.ask("GET", "/v1/machines")).status == 200


async def test_internal_error(api, caplog):
    """An unforeseen error goes to the log with its traceback, and to the client in one line."""
    answer = await api.ask("POST", "/v1/machines/crash/start")
    error = lines(answer)[-1]["error"]
    assert error["message"] == "internal error: secret of the house"
    assert "Traceback" not in json.dumps(error)
    assert "RuntimeError: secret" in caplog.text
    assert "Traceback" in caplog.text


async def test_internal_error_of_a_question(api, monkeypatch, caplog):
    """The same where the answer is no stream."""
    monkeypatch.setattr(type(api.supervisor), "find_machines", lambda self: 1 / 0)
    answer = await api.ask("GET", "/v1/machines")
    assert answer.status == 500
    assert answer.error["message"] == "internal error: division by zero"
    assert "ZeroDivisionError" in caplog.text


async def test_several_errors_at_once(api, monkeypatch):
    """When several machines fail at once, each error is listed."""

    async def up(self, spec, *, report, wait, restart):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._act, "broken", report, "start")
            nursery.start_soon(self._act, "nobody", report, "start")

    monkeypatch.setattr(type(api.supervisor), "up", up)
    error = lines(await api.ask("POST", "/v1/up", DOCUMENT))[-1]["error"]
    messages = {problem["message"] for problem in error["problems"]}
    assert messages == {"QEMU died at once: no such device", "there is no machine 'nobody'"}


async def test_keep_alive(api):
    """Many requests go through one connection."""
    stream = await api.connect()
    for _ in range(3):
        await stream.send_all(b"GET /v1/machines HTTP/1.1\r\nHost: q\r\n\r\n")
        data = b""
        while b'"uptime"' not in data:
            data += await stream.receive_some()
        assert data.startswith(b"HTTP/1.1 200")
    await stream.aclose()
