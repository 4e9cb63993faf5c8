import os
import socket
import stat

import pytest

from qorch.sockets import bind_unix, connect_unix, find_free_display


@pytest.fixture
def deep(tmp_path):
    """A directory whose path alone is longer than a socket's may be."""
    directory = tmp_path.joinpath(*["d" * 50] * 4)
    directory.mkdir(parents=True)
    return directory


def count_fds():
    """How many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_a_path_may_be_longer_than_108_bytes(deep):
    """Both ends; the kernel's limit is worked around, and no descriptor is left."""
    before = count_fds()
    path = deep / "qmp.sock"
    assert len(str(path)) > 200
    with bind_unix(path) as listener, connect_unix(path) as client:
        served, _ = listener.accept()
        with served:
            client.sendall(b"hello")
            assert served.recv(9) == b"hello"
    assert count_fds() == before


def test_only_the_owner_may_connect(tmp_path):
    """Whatever the umask is."""
    old = os.umask(0)
    try:
        with bind_unix(tmp_path / "s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_a_dead_socket_is_replaced(tmp_path):
    """What a killed supervisor left is in nobody's way."""
    path = tmp_path / "s"
    bind_unix(path).close()
    with pytest.raises(ConnectionRefusedError):
        connect_unix(path)
    with bind_unix(path), connect_unix(path) as client:
        assert client.fileno() >= 0


def test_a_failure_leaves_no_descriptor(tmp_path):
    """No directory to bind in, nobody to connect to."""
    before = count_fds()
    for attempt in (bind_unix, connect_unix):
        with pytest.raises(FileNotFoundError):
            attempt(tmp_path / "no" / "s")
    with pytest.raises(FileNotFoundError):
        connect_unix(tmp_path / "s")
    assert count_fds() == before


def test_the_first_free_vnc_display_is_found():
    """One that somebody listens at is passed over."""
    first = find_free_display("127.0.0.1")
    with socket.create_server(("127.0.0.1", 5900 + first)):
        assert find_free_display("127.0.0.1") > first
        assert find_free_display("127.0.0.1", first + 30) >= first + 30
