"""Programs are run plainly, and a failed one can be run again by hand."""

from __future__ import annotations

import pytest

from qorch_storage.errors import StorageError
from qorch_storage.run import find_hint, run, run_create


def test_output():
    """What the program prints comes back; nothing is left for a shell to interpret."""
    assert run(["printf", "%s", "$HOME `id` ;"]) == "$HOME `id` ;"


def test_failure_can_be_pasted():
    """The error has the program's last words and a line for the shell."""
    with pytest.raises(StorageError) as caught:
        run(["sh", "-c", "echo 'out of luck' >&2; exit 3"])
    assert str(caught.value) == (
        "sh failed with status 3: out of luck\n$ sh -c 'echo '\"'\"'out of luck'\"'\"' >&2; exit 3'"
    )


def test_killed_program():
    """A program that died of a signal is told apart from one that failed."""
    with pytest.raises(StorageError, match="sh failed with signal 9: no output"):
        run(["sh", "-c", "kill -9 $$"])


def test_much_output():
    """Of a flood of words only the last are shown."""
    with pytest.raises(StorageError, match="the end") as caught:
        run(["sh", "-c", "seq 100000 >&2; echo the end >&2; exit 1"])
    assert len(caught.value.message) < 3000


def test_missing_program(monkeypatch, tmp_path):
    """A program that is not installed names its package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="qemu-img is not installed") as caught:
        run(["qemu-img", "--version"])
    assert caught.value.hint == "apt-get install qemu-utils"


def test_program_that_cannot_run(tmp_path):
    """A program that the kernel refuses to start is one clear error."""
    program = tmp_path / "program"
    program.write_bytes(b"\0")
    program.chmod(0o755)
    with pytest.raises(StorageError, match=r"cannot run .*: Exec format error"):
        run([str(program)])


@pytest.mark.parametrize("bad", [4, 5])
def test_luks_that_could_not_be_timed(tmp_path, bad):
    """`qemu-img create` is run again where LUKS was out of luck, but not for ever."""
    count = tmp_path / "count"
    words = "qemu-img: a.luks: Unable to get accurate CPU usage"
    script = f'echo >>"$0"; [ $(wc -l <"$0") -gt {bad} ] || {{ echo "{words}" >&2; exit 1; }}'
    if bad == 4:
        run_create(["sh", "-c", script, str(count)])
    else:
        with pytest.raises(StorageError, match="accurate CPU usage"):
            run_create(["sh", "-c", script, str(count)])
    assert count.read_text() == "\n" * 5


def test_words_in_english(monkeypatch):
    """Messages come in one language, whatever the user's."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL"]) == "C\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("No space left on device", "free some space or inodes there, or choose another pool"),
        ("Read-only file system", "the file system is mounted read-only: choose another place"),
        ("it went wrong", None),
    ],
)
def test_what_to_do_about_the_kernels_words(words, hint):
    """A program's last words are often the kernel's, and so are those of QEMU's jobs."""
    with pytest.raises(StorageError) as caught:
        run(["sh", "-c", f"echo 'cannot write: {words}' >&2; exit 1"])
    assert caught.value.hint == find_hint(words) == hint
