"""The client: finding and starting a supervisor, requests, errors."""

import json
import os
import select
import signal
import threading

import pytest

from qorch.api import rendezvous
from qorch.client import Client, ClientError, Document
from qorch.paths import StateDir

HELLO = Document('[vm.web]\nkernel = "k"\n', "/tmp")  # noqa: S108  never touched


def drop(_line):
    """Report to nobody."""


def wait_end(pid):
    """Wait until a process is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(pidfd)


@pytest.fixture
def client(state, served):
    """A client of the fake supervisor."""
    with Client(state, start=False) as client:
        yield client


def test_questions(client, state):
    """Rows, details, plans and the supervisor itself come as JSON says."""
    assert client.find_supervisor() == {
        "version": "0.1.0",
        "pid": os.getpid(),
        "state": {"run": str(state.run), "data": str(state.data)},
        "owner": state.owner,
    }
    assert [row["name"] for row in client.find_machines()] == ["web"]
    assert client.show_machine("web")["vcpus"][0]["thread_id"] == 4712
    change = {"action": "create", "kind": "vm", "name": "web", "detail": "1 CPU"}
    assert client.plan(HELLO) == [change]
    assert client.plan(HELLO, down=True)[0]["action"] == "remove"


def test_one_connection_for_many_questions(client, state):
    """Questions share a connection as long as the supervisor keeps it open."""
    client.find_machines()
    first = client._idle
    client.find_machines()
    assert client._idle is first


def test_progress(client, served):
    """Each step and note is reported as it happens, before the call returns."""
    lines = []
    client.up(HELLO, report=lines.append, wait=5.0, restart=True)
    assert lines == [
        {"type": "step", "kind": "network", "name": "default", "step": "create bridge"},
        {"type": "step", "kind": "vm", "name": "web", "step": "start"},
        {
            "type": "note",
            "kind": "vm",
            "name": "web",
            "message": "KVM is not there: it runs under TCG",
        },
    ]
    assert served[0].calls == [("up", ["web"], 5.0, True), "up done"]


def test_verbs(client, served):
    """Every verb arrives with its options."""
    client.start_machine("web", report=drop, wait=1)
    client.stop_machine("web", report=drop, grace=2)
    client.restart_machine("web", report=drop, grace=3, wait=4)
    client.kill_machine("web", report=drop)
    client.remove_machine("web", report=drop, volumes=True)
    assert served[0].calls == [
        ("start", "web", 1.0),
        ("started", "web"),
        ("stop", "web", 2.0),
        ("restart", "web", 3.0, 4.0),
        ("kill", "web"),
        ("rm", "web", True),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "message", "hint"),
    [
        ("broken", "failed", "QEMU died at once: no such device", "correct the device"),
        ("nobody", "not-found", "there is no machine 'nobody'", "machines: web"),
        (
            "crash",
            "failed",
            "internal error: secret of the house",
            "the supervisor's log says more",
        ),
        ("../run", "not-found", "there is no machine '../run'", None),
        ("", "not-found", "the control API says: Not Found", None),
        ("ü\ud800", "not-found", None, None),
    ],
)
def test_errors_while_working(client, name, kind, message, hint):
    """An error of a verb is raised with its kind, words and hint, whatever the name."""
    with pytest.raises(ClientError) as raised:
        client.start_machine(name, report=drop)
    assert raised.value.kind == kind
    if message is not None:
        assert (raised.value.message, raised.value.hint) == (message, hint)


def test_network_errors_have_their_own_words(client):
    """An error of qorch_net keeps message and hint."""
    with pytest.raises(ClientError, match="the bridge is busy") as raised:
        client.down(HELLO, report=drop, volumes=True)
    assert (raised.value.kind, raised.value.hint) == ("failed", "look who uses it")


def test_all_problems_of_a_document(client):
    """A wrong document is refused before anything is done, with each problem's path."""
    text = '[vm.web]\nkernle = "k"\nmemory = 5\n'
    with pytest.raises(ClientError) as raised:
        client.up(Document(text, "/tmp"), report=drop)  # noqa: S108
    assert raised.value.kind == "input"
    assert {problem.path for problem in raised.value.problems} >= {"vm.web.kernle"}


def test_events(client):
    """Events come one by one, while they happen."""
    with client.open_events("web") as events:
        assert next(events) == {"time": 1.5, "machine": "web", "event": "HELLO", "n": 1}


def test_console_has_many_watchers(client, state, served):
    """What one client types, all see; typing after the end of the console is refused."""
    with (
        Client(state) as other,
        other.open_console("web") as watching,
        client.open_console("web") as typing,
    ):
        typing.send(b"hello\n")
        assert watching.read_some() == b"hello\n"
        assert typing.read_some() == b"hello\n"
        typing.send(b"\x04")
        assert watching.read_some() == b""
        typing.finish()


def test_long_socket_path(tmp_path, fake):
    """A state directory deeper than a socket address is long works."""
    state = StateDir.from_directory(tmp_path / ("d" * 200))
    state.run.mkdir(parents=True)
    listener = rendezvous.open_listener(state.api_socket)
    assert state.api_socket.stat().st_mode & 0o777 == 0o600
    with fake.open_fake(state, listener), Client(state, start=False) as client:
        assert client.find_machines()


def test_no_supervisor_and_none_wanted(tmp_path):
    """Where none may be started, the error says so and nothing is made."""
    state = StateDir.from_directory(tmp_path)
    with pytest.raises(ClientError, match="no supervisor runs"):
        Client(state, start=False).find_machines()
    assert not list(tmp_path.iterdir())


def test_starting_a_supervisor(tmp_path, state, fake_command, pids):
    """The first request starts one in a session of its own, which later requests use."""
    with Client(state, command=fake_command) as client:
        pid = client.find_supervisor()["pid"]
    with Client(state, start=False) as client:
        assert client.find_supervisor()["pid"] == pid
    assert pids() == [pid]
    assert os.getsid(pid) == pid
    assert state.run.stat().st_mode & 0o777 == 0o700


def test_two_clients_start_one_supervisor(state, fake_command, pids):
    """Of clients that come at once one starts a supervisor and all use it."""
    found = []

    def ask():
        with Client(state, command=fake_command) as client:
            found.append(client.find_supervisor()["pid"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == pids() * 8


def test_a_supervisor_that_dies_at_once(state, fake_command, pids):
    """Its last words are in the error, and the next client may try again."""
    (state.data / "supervisor.log").write_text("old words\n")
    (state.data / "die").touch()
    client = Client(state, command=fake_command)
    with pytest.raises(ClientError) as raised:
        client.find_machines()
    assert raised.value.message == (
        "the supervisor ended without an answer\n  qemu-system-x86_64 is not installed"
    )
    assert raised.value.hint == f"its log is {state.supervisor_log}"
    assert len(pids()) == 1
    (state.data / "die").unlink()
    assert client.find_machines()
    client.close()


def test_a_program_that_cannot_be_run(state):
    """A supervisor that cannot even be started is an error, and the locks are free again."""
    with pytest.raises(ClientError, match=r"cannot start a supervisor: .*No such file"):
        Client(state, command=("/nonexistent/python",)).find_machines()
    claim = rendezvous.meet(state, patience=0)
    assert isinstance(claim, rendezvous.Claim)
    claim.close()


def test_killed_supervisor_is_replaced(state, fake_command, pids):
    """After kill -9 the next request starts another, also on a connection that was kept."""
    with Client(state, command=fake_command) as client:
        first = client.find_supervisor()["pid"]
        os.kill(first, signal.SIGKILL)
        wait_end(first)
        assert client.find_supervisor()["pid"] != first
    assert len(pids()) == 2


def test_dying_in_the_middle(state, fake_command):
    """A supervisor that dies in the middle of a verb is an error, not a success."""

    def kill(_line):
        with Client(state, start=False) as other:
            os.kill(other.find_supervisor()["pid"], signal.SIGKILL)

    with pytest.raises(ClientError, match="ended before this was done"):
        Client(state, command=fake_command).start_machine("slow", report=kill)


def test_idle_exit_and_coming_back(state, fake_command, monkeypatch):
    """A supervisor that nobody wants leaves by itself; the next request starts another."""
    monkeypatch.setenv("FAKE_LINGER", "0.5")
    with Client(state, command=fake_command) as client:
        first = client.find_supervisor()["pid"]
        wait_end(first)
        assert client.find_supervisor()["pid"] != first


@pytest.mark.parametrize(
    "last_words",
    [b"", b'HTTP/1.1 503 No\r\nContent-Length: 13\r\n\r\n{"error": {}}'],
    ids=["none", "shutting-down"],
)
def test_asking_one_that_leaves(state, fake_command, last_words, pids):
    """A request that a leaving supervisor accepted but did not read goes to the next one."""
    listener = rendezvous.open_listener(state.api_socket)

    def leave():
        connection, _ = listener.accept()
        listener.close()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(last_words)

    thread = threading.Thread(target=leave)
    thread.start()
    with Client(state, command=fake_command) as client:
        assert [client.find_supervisor()["pid"]] == pids()
    thread.join()


def test_waiting_for_one_that_shuts_down(state, fake_command):
    """While the old supervisor still holds its lock, a client waits for it."""
    claim = rendezvous.meet(state)
    claim.listener.close()
    asking = threading.Thread(target=claim_then_close, args=(state,))
    asking.start()
    os.close(claim.lock)
    asking.join()


def claim_then_close(state):
    """Claim the supervisor's place, as soon as it is free."""
    rendezvous.claim(state).close()


def test_a_lock_that_is_never_released(state):
    """A supervisor that neither answers nor ends is an error that names the lock."""
    claim = rendezvous.meet(state)
    claim.listener.close()
    with pytest.raises(rendezvous.RendezvousError, match=r"holds .*supervisor.lock") as raised:
        rendezvous.meet(state, patience=0)
    assert "fuser" in raised.value.hint
    os.close(claim.lock)


def test_claiming_beside_a_supervisor(state, served):
    """A second supervisor for one state directory is refused."""
    with pytest.raises(rendezvous.RendezvousError, match="a supervisor runs already"):
        rendezvous.claim(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory(state, fake_command):
    """A run directory that belongs to another user is not used."""
    os.chown(state.run, 12345, 12345)
    with pytest.raises(ClientError, match="belongs to uid 12345") as raised:
        Client(state, command=fake_command).find_machines()
    assert "--state-dir" in raised.value.hint


def test_a_place_where_nothing_can_be_made(tmp_path, fake_command):
    """Directories that cannot be made are an error with the path."""
    (tmp_path / "file").touch()
    state = StateDir.from_directory(tmp_path / "file")
    with pytest.raises(ClientError, match=r"cannot prepare .*file/run: "):
        Client(state, command=fake_command).find_machines()


def test_nothing_is_inherited(state, fake_command, pids):
    """The supervisor has its standard fds, socket and lock, and no fd of the client's."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with Client(state, command=fake_command) as client:
        client.find_machines()
    os.close(writer)
    assert select.select([reader], [], [], 10)[0], "somebody still holds the pipe"
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "the supervisor ended without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "ends in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[]", "ends in the middle"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "this is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[}", "answer is broken"),
        (b"x" * 100_000, "ends in the middle"),
    ],
)
def test_broken_answers(state, answer, message):
    """Whatever sits behind the socket, the client raises its own error."""
    with rendezvous.open_listener(state.api_socket) as listener:

        def serve():
            for _ in range(1 if answer else 5):
                connection, _ = listener.accept()
                connection.recv(1 << 16)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ClientError, match=message):
            Client(state, start=False).find_machines()
        thread.join()


def test_silence_with_a_limit(state):
    """With a limit, as shell completion has, a supervisor that hangs is an error."""
    with rendezvous.open_listener(state.api_socket):
        client = Client(state, start=False, seconds=0.01)
        with pytest.raises(ClientError, match="timed out"):
            client.find_machines()


def test_standard_library_only():
    """Importing the client loads nothing but the standard library and qorch."""
    import subprocess
    import sys

    code = "import sys, json, qorch.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    tops = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert tops - {"qorch"} <= sys.stdlib_module_names | {
        "__main__",
        "sitecustomize",
        "_distutils_hack",
    }


def test_socket_is_for_one_user(state):
    """The socket's mode is 0600 from the moment it exists, whatever the umask."""
    before = os.umask(0)
    try:
        rendezvous.open_listener(state.api_socket).close()
    finally:
        os.umask(before)
    assert state.api_socket.stat().st_mode & 0o777 == 0o600
