import contextlib
import os
import sys
from pathlib import Path

import pytest
from fake_host import plan_text

from qorch.errors import MachineError
from qorch.helper import make_helpers, make_mark
from qorch.helpers import end_helper, find_helpers, start_helpers

SWTPM = """
import os, socket, sys
fd = int(sys.argv[-2].rpartition("=")[2])
wire = socket.socket(fileno=fd)
assert wire.recv(4) == b"\\0\\0\\0\\1"
{answer}
while wire.recv(100):
    pass
"""
VIRTIOFSD = """
import socket, sys
fd = int(sys.argv[1].rpartition("=")[2])
wire, _ = socket.socket(fileno=fd).accept()
assert wire.recv(12)[:4] == b"\\1\\0\\0\\0"
wire.sendall(bytes(20))
while wire.recv(100):
    pass
"""
PASST = """
import socket, sys
wire = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
asked = wire.recv(100)
assert asked[:4] == bytes([0, 0, 0, 42]) and asked[16:18] == b"\\x08\\x06"
wire.sendall(bytes(46))
while wire.recv(100):
    pass
"""
TEXT = """
[vm.web]
kernel = "k"
tpm = "2.0"
share = [{ path = "a,b", tag = "t", cache = "none", xattr = true }]
[[vm.web.nic]]
mac = "52:54:00:00:00:07"
mtu = 9000
[vm.web.nic.user]
passt = true
net = "10.7.0.0/24"
net6 = "fd00:7::/64"
dns = "10.7.0.3"
interface = "eth7"
forward = [
  { host = "127.0.0.1", host_port = 2222, port = 22 },
  { proto = "udp", host_port = 5, port = 6 },
]
"""


def write(path, text):
    """A program in Python."""
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


@pytest.fixture
def plan(tmp_path):
    """A machine with a helper of each kind, small but real."""

    def make(answer="wire.sendall(bytes(8))"):
        programs = {
            "qemu-system-x86_64": Path("/usr/bin/qemu-system-x86_64"),
            "swtpm": write(tmp_path / "swtpm", SWTPM.format(answer=answer)),
            "virtiofsd": write(tmp_path / "virtiofsd", VIRTIOFSD),
            "passt": write(tmp_path / "passt", PASST),
        }
        return plan_text(TEXT, root=tmp_path, programs=programs).machines["web"]

    return make


@contextlib.contextmanager
def started(plan, tmp_path, steps=None):
    """The helpers of a machine, ended with the block."""
    with contextlib.ExitStack() as undo:
        report = (steps if steps is not None else []).append
        yield start_helpers(plan, data=tmp_path, env=os.environ, report=report, undo=undo)


def test_helpers_are_command_lines_of_the_plan(plan, tmp_path):
    """With the number of the socket that they inherit."""
    tpm, share, passt = make_helpers(plan())
    assert tpm.args(7)[1:] == (
        *("socket", "--tpm2", "--tpmstate", f"dir={tmp_path}/data/vm/web/tpm,mode=0600"),
        *("--ctrl", "type=unixio,clientfd=7", "--terminate"),
    )
    assert share.args(8)[1:] == (
        *("--fd=8", "-o", f"source={tmp_path}/a\\,b", "-o", "cache=never", "-o", "xattr"),
    )
    assert passt.args(9)[1:] == (
        *("--foreground", "--stderr", "--fd", "9", "--address", "10.7.0.15", "--netmask", "24"),
        *("--gateway", "10.7.0.2", "--address", "fd00:7::f", "--dns", "10.7.0.3"),
        *("--interface", "eth7", "--mtu", "9000"),
        *("--tcp-ports", "127.0.0.1/2222:22", "--udp-ports", "5:6"),
    )


async def test_helpers_answer_and_are_found_by_their_mark(plan, tmp_path):
    """Each is ready when it is handed over, and can be ended by whoever finds it."""
    machine, steps = plan(), []
    with started(machine, tmp_path, steps) as running:
        assert steps == ["start helper tpm", "start helper share0", "start helper nic0"]
        found = {id_: process for name, id_, process in find_helpers(machine.owner)}
        assert {id_: item.pid for id_, item in found.items()} == {
            id_: item.process.pid for id_, item in running.items()
        }
        for process in found.values():
            await end_helper(process)
        assert not list(find_helpers(machine.owner))
    assert make_mark(machine, "tpm") == f"{machine.owner}:helper/web/tpm"


def test_helpers_end_with_the_connection(plan, tmp_path):
    """Whoever had it: QEMU, or we before there was one."""
    with started(plan(), tmp_path) as running:
        for item in running.values():
            item.connection.close()
            item.process.wait_nowait()
            assert not item.process.is_alive


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("sys.exit('no room')", "helper tpm ended: no room"),
        ("sys.exit()", "helper tpm ended: without a word"),
    ],
)
def test_a_helper_that_ends_early_is_an_error(plan, tmp_path, answer, message):
    """With its last words, and nothing runs on."""
    machine = plan(answer)
    with pytest.raises(MachineError, match=message), started(machine, tmp_path):
        pass
    assert not list(find_helpers(machine.owner))


def test_a_failure_later_on_ends_those_that_run(plan, tmp_path):
    """The first is up when the second fails."""
    machine = plan()
    (tmp_path / "virtiofsd").write_text("#!/bin/sh\necho no such directory >&2\nexit 1\n")
    with (
        pytest.raises(MachineError, match="helper share0 ended: no such directory"),
        started(machine, tmp_path),
    ):
        pass
    assert not list(find_helpers(machine.owner))
