from pathlib import Path

import pytest

from qorch.paths import StateDir

HOME = Path("/home/me")
TMP = "/tmp/qorch"  # noqa: S108  that is where it is


@pytest.mark.parametrize(
    ("environ", "euid", "run", "data"),
    [
        ({}, 0, "/run/qorch", "/var/lib/qorch"),
        ({"XDG_RUNTIME_DIR": "/x", "XDG_DATA_HOME": "/y"}, 0, "/run/qorch", "/var/lib/qorch"),
        ({"XDG_RUNTIME_DIR": "/x"}, 1000, "/x/qorch", "/home/me/.local/share/qorch"),
        ({"XDG_DATA_HOME": "/y"}, 1000, f"{TMP}-1000/qorch", "/y/qorch"),
        ({"XDG_RUNTIME_DIR": "", "XDG_DATA_HOME": ""}, 5, f"{TMP}-5/qorch", None),
        ({"QORCH_STATE_DIR": "/q"}, 0, "/q/run", "/q/data"),
        ({"QORCH_STATE_DIR": "/q", "XDG_DATA_HOME": "/y"}, 1000, "/q/run", "/q/data"),
        ({"QORCH_STATE_DIR": ""}, 0, "/run/qorch", "/var/lib/qorch"),
    ],
)
def test_the_environment_says_where_things_are(environ, euid, run, data):
    """QORCH_STATE_DIR first; root has its own places, others those of XDG; empty is unset."""
    state = StateDir.from_environment(environ, euid=euid, home=HOME)
    assert state == (Path(run), Path(data or "/home/me/.local/share/qorch"))


def test_a_state_directory_has_one_owner_however_it_is_written(tmp_path, monkeypatch):
    """A relative path and a symbolic link mean the same supervisor; two directories do not."""
    monkeypatch.chdir(tmp_path)
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    owners = {
        StateDir.from_directory(Path(path)).owner for path in ("real", "link", "./link/../real")
    }
    assert owners == {StateDir.from_directory(real).owner}
    assert owners != {StateDir.from_directory(tmp_path).owner}
    assert all(len(owner) == 8 and int(owner, 16) >= 0 for owner in owners)


def test_all_paths_lie_in_the_two_directories():
    """What dies with a boot under one, what stays under the other."""
    state = StateDir(Path("/r"), Path("/d"))
    run = (state.api_socket, state.supervisor_lock, state.start_lock, state.machine_run("a"))
    data = (state.supervisor_log, state.default_pool, state.machine_data("a"))
    assert {path.parts[1] for path in (*run, state.network_run("a"))} == {"r"}
    assert {path.parts[1] for path in (*data, state.network_data("a"))} == {"d"}
