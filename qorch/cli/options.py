"""Arguments and options that several verbs share."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from qorch.client import Client, ClientError, Document
from qorch.paths import StateDir

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
F = TypeVar("F", bound=Callable[..., Any])


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A duration: `30`, `30s`, `2min`."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it; a usage error says what is wrong."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(value))
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is not a duration: write 30, 30s or 2min", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


SECONDS = Seconds()


def find_state(context: click.Context) -> StateDir:
    """The state directory this command line is about."""
    directory = context.find_root().params.get("state_dir")
    if directory is not None:
        _check_directory(directory)
        return StateDir.from_directory(Path(directory))
    return StateDir.from_environment(os.environ, euid=os.geteuid())


def _check_directory(directory: str) -> None:
    """An empty name would mean the host's own; dnsmasq's configuration cannot hold the others."""
    if not directory or '"' in directory or not directory.isprintable():
        raise click.BadParameter(
            f"{directory!r} is no directory to keep state in", param_hint="--state-dir"
        )


def open_client() -> Client:
    """A client of the supervisor, which is started if none runs."""
    return Client(find_state(click.get_current_context()))


def read_bytes(file: str) -> bytes:
    """A file's content, or that of standard input as `-`. Raises ClientError."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        hint = "name the file, or go where it is" if missing else None
        what = "standard input" if file == "-" else file
        raise ClientError("input", f"{what}: {error.strerror}", hint) from error


def read_document(file: str) -> Document:
    """A vm.toml by its path, or standard input as `-`. Raises ClientError."""
    path = Path.cwd() / "standard input" if file == "-" else Path(file)
    try:
        text = read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise ClientError("input", f"{path}: not UTF-8 text") from error
    return Document(text, str(path.absolute().parent), path.name if file == "-" else file)


def complete_machine(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names for shell completion; never starts a supervisor."""
    try:
        with Client(find_state(context), start=False, seconds=1) as client:
            names = [machine["name"] for machine in client.find_machines()]
    except Exception:  # noqa: BLE001  a shell that completes shows no errors
        return []
    return [name for name in names if name.startswith(incomplete)]


file_argument = click.argument(
    "file", default="vm.toml", type=click.Path(dir_okay=False, allow_dash=True)
)
name_argument = click.argument("name", shell_complete=complete_machine)
names_argument = click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_machine
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, with stable keys.")
wait_option = click.option(
    "--wait",
    type=SECONDS,
    metavar="SECONDS",
    help="Wait until the guest is ready, at most so long.",
)
timeout_option = click.option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="How long the guest may take to power down before it is ended.",
)
volumes_option = click.option(
    "--volumes", is_flag=True, help="Also remove the volumes made for it. Their data is lost."
)
