"""The command line as a process, against the fake supervisor."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest


@attrs.define(eq=False)
class Shell:
    """Runs `qorch` for one state directory."""

    directory: Path

    @property
    def words(self):
        """What comes before the verb."""
        return [sys.executable, "-m", "qorch", "--state-dir", str(self.directory)]

    @property
    def env(self):
        """An environment without the settings of whoever runs the tests."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.directory)}

    def __call__(self, *words, **options):
        """Run to the end; `status`, `out` and `err` of it."""
        options = {"stdin": subprocess.DEVNULL, "cwd": self.directory, "env": self.env} | options
        if "input" in options:
            del options["stdin"]
        done = subprocess.run(
            [*self.words, *words], capture_output=True, check=False, timeout=60, **options
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *words, **options):
        """Start and go on."""
        options = {"cwd": self.directory, "env": self.env} | options
        return subprocess.Popen([*self.words, *words], **options)


@attrs.frozen
class Done:
    """How it ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def qorch(tmp_path, state):
    """The command line."""
    return Shell(tmp_path)


@pytest.fixture
def document(tmp_path):
    """A vm.toml in the directory where the command line runs."""
    path = tmp_path / "vm.toml"
    path.write_text('[vm.web]\nkernel = "k"\n')
    return path
