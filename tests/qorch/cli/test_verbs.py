"""The verbs: what they ask for, what they print, how they end."""

import json
import os
import signal
import socket
import subprocess

import click
import pytest
from click.testing import CliRunner

from qorch.cli.verbs import qorch as group

KEYS = ["name", "state", "pid", "uuid", "cpus", "memory", "accel", "ips", "uptime"]


@pytest.mark.parametrize("verb", group.commands)
def test_every_verb_has_help(verb):
    """`--help` of each verb begins with what it does, in one sentence, and lists its options."""
    done = CliRunner().invoke(group, [verb, "--help"], prog_name="qorch")
    assert done.exit_code == 0
    usage, summary, *_ = done.output.split("\n\n")
    assert usage.startswith(f"Usage: qorch {verb}")
    assert summary.strip().endswith(".")
    assert all(option.help for option in group.commands[verb].params if is_shown(option))


def is_shown(parameter):
    """Whether help lists it."""
    return isinstance(parameter, click.Option) and not parameter.hidden


def test_without_words(qorch):
    """`qorch` alone shows the verbs."""
    done = subprocess.run(qorch.words[:3], env=qorch.env, capture_output=True, check=True)
    assert b"Usage: qorch" in done.stdout


# -- what they print -------------------------------------------------------------------------------


def test_ls(qorch, served):
    """Without a terminal `ls` prints aligned columns, sizes and times for people."""
    done = qorch("ls")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "name  state    pid   cpus  memory  accel  ips            uptime\n"
        "web   running  4711  2     1GiB    tcg    192.168.133.5  3m12s\n"
    )


def test_ls_json(qorch, served):
    """`ls --json` has the keys that scripts rely on, in this order."""
    [row] = json.loads(qorch("ls", "--json").out)
    assert list(row) == KEYS


def test_show(qorch, served):
    """`show` prints one thing per line."""
    lines = qorch("show", "web").out.splitlines()
    assert "memory:    1GiB" in lines
    assert "vcpu:      index=0 thread_id=4712 affinity=0" in lines


def test_show_json(qorch, served):
    """`show --json` adds the details to the keys of `ls`."""
    details = json.loads(qorch("show", "web", "--json").out)
    assert list(details) == [*KEYS, "disks", "nics", "vcpus", "console", "qmp"]


def test_ip(qorch, served):
    """`ip` prints one address per line."""
    assert qorch("ip", "web").out == "192.168.133.5\n"


def test_plan(qorch, served, document):
    """`plan` prints what would be done, `--json` with the keys that scripts rely on."""
    done = qorch("plan")
    assert done.out == "action  kind  name  detail\ncreate  vm    web   1 CPU\n"
    assert done.err == "note: vm web: KVM is not there: it runs under TCG\n"
    changes = json.loads(qorch("plan", "vm.toml", "--down", "--json").out)
    assert changes == [{"action": "remove", "kind": "vm", "name": "web", "detail": "1 CPU"}]


def test_log(qorch, served, state):
    """`log` prints the console log as it is, bytes that are no text included."""
    path = state.machine_data("web") / "console.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\ntwo\n\xff\n")
    done = subprocess.run(
        [*qorch.words, "log", "-n", "2", "web"], capture_output=True, check=True, env=qorch.env
    )
    assert done.stdout == b"two\n\xff\n"


def test_log_follow(qorch, served, state):
    """`log -f` goes on until the machine is removed."""
    path = state.machine_data("web") / "console.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\n")
    with qorch.start("log", "-f", "web", stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"one\n"
        with path.open("ab") as file:
            file.write(b"two\n")
        assert process.stdout.readline() == b"two\n"
        path.unlink()
        path.parent.rmdir()
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_events(qorch, served):
    """`events` prints each event at once, `--json` as one object per line, until Ctrl-C."""
    with qorch.start("events", "--json", "web", stdout=subprocess.PIPE) as process:
        event = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert event == {"time": 1.5, "machine": "web", "event": "HELLO", "n": 1}


def test_events_for_people(qorch, served):
    """Without `--json` an event is a line with its time of day."""
    with qorch.start("events", stdout=subprocess.PIPE) as process:
        words = process.stdout.readline().split()
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert words[1:] == [b"web", b"HELLO", b"n=1"]


# -- what they ask for -----------------------------------------------------------------------------


def test_up(qorch, served, document):
    """`up` takes vm.toml of this directory, and tells steps and notes on stderr."""
    done = qorch("up", "--wait", "2min", "--restart")
    assert (done.status, done.out) == (0, "")
    assert done.err == (
        "network default: create bridge\n"
        "vm web: start\n"
        "note: vm web: KVM is not there: it runs under TCG\n"
    )
    assert served[0].calls == [("up", ["web"], 120.0, True), "up done"]


def test_up_from_standard_input(qorch, served):
    """`-` is standard input."""
    done = qorch("up", "-", input=b'[vm.pipe]\nkernel = "k"\n')
    assert "there is no machine 'pipe'" in done.err
    assert served[0].calls == [("up", ["pipe"], None, False)]


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        ("start web --wait 5", [("start", "web", 5.0), ("started", "web")]),
        ("stop web --timeout 1.5s", [("stop", "web", 1.5)]),
        ("restart web --timeout 500ms --wait 1h", [("restart", "web", 0.5, 3600.0)]),
        ("kill web web", [("kill", "web"), ("kill", "web")]),
        ("rm web", [("rm", "web", False)]),
        ("rm --volumes web", [("rm", "web", True)]),
    ],
)
def test_machine_verbs(qorch, served, words, calls):
    """Verbs about machines take any number of names, and durations with or without a unit."""
    done = qorch(*words.split())
    assert (done.status, done.out) == (0, "")
    assert served[0].calls == calls


def test_all_names_get_their_turn(qorch, served):
    """A machine that fails does not keep the others from being stopped; all errors are told."""
    done = qorch("stop", "nobody", "broken", "web")
    assert [call[:2] for call in served[0].calls] == [
        ("stop", "nobody"),
        ("stop", "broken"),
        ("stop", "web"),
    ]
    assert done.status == 3
    assert "error: there is no machine 'nobody'\nerror: QEMU died at once" in done.err


# -- how they end ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "err"),
    [
        (
            "show nobody",
            3,
            "error: there is no machine 'nobody'\nhint: machines: web\n",
        ),
        ("show ../etc", 3, "error: there is no machine '../etc'\n"),
        ("log nobody", 3, "error: there is no machine 'nobody'\nhint: machines: web\n"),
        ("console nobody", 3, "error: there is no machine 'nobody'\nhint: machines: web\n"),
        ("events nobody", 3, "error: there is no machine 'nobody'\nhint: machines: web\n"),
        (
            "start broken",
            1,
            (
                "vm broken: start\n"
                "error: QEMU died at once: no such device\nhint: correct the device\n"
            ),
        ),
        (
            "start crash",
            1,
            (
                "vm crash: start\n"
                "error: internal error: secret of the house\nhint: the supervisor's log says more\n"
            ),
        ),
        ("down", 1, "error: the bridge is busy\nhint: look who uses it\n"),
        ("up no.toml", 2, "error: no.toml: No such file or directory\n"),
        ("up .", 2, "error: Invalid value for '[FILE]': File '.' is a directory.\n"),
        ("up bad.toml", 2, "error: bad.toml: not UTF-8 text\n"),
        ("plan two.toml", 2, "error: vm.web.kernle: unknown key\n"),
        ("plan big.toml", 2, "error: the control API says: the body is larger than 1 MiB\n"),
        ("bogus", 2, "error: No such command 'bogus'.\nhint: see qorch --help\n"),
        ("ls --bogus", 2, "error: No such option '--bogus'.\nhint: see qorch ls --help\n"),
        ("show", 2, "error: Missing argument 'NAME'.\nhint: see qorch show --help\n"),
        ("stop web --timeout 3x", 2, "error: Invalid value for '--timeout': '3x' is not a dur"),
        ("console web --escape ^ab", 2, "error: Invalid value for --escape: '^ab' is no key"),
        ("log web -n -1", 2, "error: Invalid value for '-n' / '--lines': -1 is not in the"),
    ],
)
def test_errors(qorch, served, document, words, status, err):
    """Each kind of error has its exit status, and is told as `error:` and `hint:`."""
    directory = document.parent
    (directory / "bad.toml").write_bytes(b"\xff")
    (directory / "two.toml").write_text('[vm.web]\nkernle = "k"\nmemory = 5\n')
    (directory / "big.toml").write_text("#" * (1 << 20))
    done = qorch(*words.split())
    assert err.rstrip("\n") in done.err
    assert done.status == status
    assert "Traceback" not in done.err
    progress = ("error: ", "hint: ", "vm ")
    assert all(line.startswith(progress) for line in done.err.splitlines())


def test_all_problems_are_told(qorch, served, document):
    """Two mistakes in one document are two lines, each with its path."""
    document.write_text('[vm.web]\nkernle = "k"\nmemory = 5\n')
    done = qorch("up")
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert sorted(line.split(":")[1] for line in errors) == [
        " vm.web.kernle",
        " vm.web.memory.size",
    ]
    assert "hint: did you mean 'kernel'?" in done.err


def test_interrupted(qorch, served):
    """Ctrl-C ends the command at once with 130 and says that the verb goes on."""
    supervisor, call = served
    with qorch.start("start", "slow", stderr=subprocess.PIPE) as process:
        assert process.stderr.readline() == b"vm slow: start\n"
        process.send_signal(signal.SIGINT)
        assert b"goes on in the supervisor" in process.stderr.read()
    assert process.returncode == 130
    call(supervisor.release.set)
    assert qorch("ls").status == 0
    assert supervisor.calls == [("start", "slow", None), ("started", "slow")]


@pytest.mark.parametrize("rows", [1, 10_000])
def test_nobody_reads(qorch, served, rows):
    """`qorch ls | head -0` is quiet, however much there is to print."""
    served[0].machine_rows = rows
    reader, writer = os.pipe()
    os.close(reader)
    with qorch.start("ls", stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_internal_error(qorch, served, document):
    """A mistake of the command line's own is one line, too."""
    code = "import qorch.cli.output as o; o.format_size = None; from qorch.cli import main; main()"
    words = [*qorch.words[:1], "-c", code, *qorch.words[3:], "ls"]
    done = subprocess.run(words, capture_output=True, env=qorch.env, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith(b"error: internal error: TypeError: ")


# -- completion, serve, cmdline --------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(qorch, shell):
    """`completion SHELL` prints what that shell evaluates."""
    done = qorch("completion", shell)
    assert done.status == 0
    assert "_QORCH_COMPLETE" in done.out


def complete(qorch, words):
    """What bash would offer for the last word."""
    variables = {"_QORCH_COMPLETE": "bash_complete", "COMP_WORDS": f"qorch {words}"}
    variables["COMP_CWORD"] = str(len(words.split(" ")))
    variables["QORCH_STATE_DIR"] = str(qorch.directory)
    done = subprocess.run(
        qorch.words[:3], env=qorch.env | variables, capture_output=True, check=True, text=True
    )
    return done.stdout.split()


def test_completing_names(qorch, served):
    """Machine names are completed from the supervisor."""
    assert complete(qorch, "show w") == ["plain,web"]
    assert complete(qorch, "sho") == ["plain,show"]


def test_completion_starts_nothing(qorch, state):
    """Where no supervisor runs, completion offers no names and starts none."""
    assert complete(qorch, "show w") == []
    assert not list(state.run.iterdir())


def test_serve(qorch, tmp_path, state):
    """`serve` says when it is ready, answers, refuses a second one, and ends on SIGTERM."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        env = qorch.env | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with qorch.start("serve", env=env, stderr=subprocess.PIPE) as process:
            assert notify.recv(100) == b"READY=1"
            assert json.loads(qorch("ls", "--json").out) == []
            second = qorch("serve")
            assert second.status == 1
            assert second.err.startswith("error: a supervisor runs already")
            process.terminate()
            assert process.wait(20) == 0
    assert not state.api_socket.exists()


def test_cmdline(qorch, tmp_path, state):
    """`cmdline` prints QEMU's words, one per line, and starts no supervisor."""
    document = '[vm.web]\nkernel = "k"\naccel = "tcg"\n[vm.db]\nkernel = "l"\n'
    (tmp_path / "vm.toml").write_text(document)
    done = qorch("cmdline", "vm.toml", "web")
    assert done.status == 0, done.err
    assert "-kernel" in done.out.splitlines()
    assert done.err == f"warning: vm.web.kernel: {tmp_path}/k: No such file or directory\n"
    assert qorch("cmdline").status == 2
    assert qorch("cmdline", "vm.toml", "nobody").status == 3
    assert not list(state.run.iterdir())
    assert not list(state.data.iterdir())
