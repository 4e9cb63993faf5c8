"""The verbs."""

from __future__ import annotations

import json
import sys
import time
from functools import partial

import click

from qorch.cli.documents import import_xml, schema
from qorch.cli.errors import for_each
from qorch.cli.group import Verbs
from qorch.cli.options import (
    SECONDS,
    file_argument,
    find_state,
    json_option,
    name_argument,
    names_argument,
    open_client,
    read_document,
    timeout_option,
    volumes_option,
    wait_option,
)
from qorch.cli.output import Progress, format_size, format_uptime, print_json, print_table


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state-dir",
    envvar="QORCH_STATE_DIR",
    metavar="DIR",
    help="Keep sockets, definitions and volumes under DIR.",
)
@click.version_option(package_name="qorch")
def qorch(state_dir: str | None) -> None:
    """Virtual machines on this host, straight on QEMU."""


qorch.add_command(import_xml)
qorch.add_command(schema)


@qorch.command()
@file_argument
@click.option("--foreground", is_flag=True, help="Be the supervisor until the machines end.")
@click.option("--restart", is_flag=True, help="Restart running machines whose description changed.")
@wait_option
def up(file: str, *, foreground: bool, restart: bool, wait: float | None) -> None:
    """Make what FILE describes be there and run; change only what differs.

    Example: qorch up vm.toml --wait 60
    """
    document = read_document(file)
    with Progress() as progress:
        if foreground:
            from qorch.cli.foreground import run_foreground

            run_foreground(
                find_state(click.get_current_context()), document, progress, wait, restart
            )
            return
        with open_client() as client:
            client.up(document, wait=wait, restart=restart, report=progress)


@qorch.command()
@file_argument
@volumes_option
def down(file: str, *, volumes: bool) -> None:
    """Stop and remove the machines and networks that FILE defines."""
    with Progress() as progress, open_client() as client:
        client.down(read_document(file), volumes=volumes, report=progress)


@qorch.command()
@file_argument
@click.option("--down", is_flag=True, help="Show what `qorch down` would do.")
@json_option
def plan(file: str, *, down: bool, as_json: bool) -> None:
    """Show what `qorch up` would change, and change nothing."""
    with Progress() as progress, open_client() as client:
        changes = client.plan(read_document(file), down=down, report=progress)
    if as_json:
        print_json(changes)
    else:
        keys = ("action", "kind", "name", "detail")
        print_table(keys, [[change[key] for key in keys] for change in changes])


@qorch.command()
@json_option
def ls(*, as_json: bool) -> None:
    """List the machines."""
    with open_client() as client:
        machines = client.find_machines()
    if as_json:
        print_json(machines)
        return
    print_table(
        ("name", "state", "pid", "cpus", "memory", "accel", "ips", "uptime"),
        [
            (
                machine["name"],
                machine["state"],
                machine["pid"],
                machine["cpus"],
                format_size(machine["memory"]),
                machine["accel"],
                " ".join(machine["ips"]),
                format_uptime(machine["uptime"]),
            )
            for machine in machines
        ],
    )


@qorch.command()
@name_argument
@json_option
def show(name: str, *, as_json: bool) -> None:
    """Show everything about one machine."""
    with open_client() as client:
        details = client.show_machine(name)
    if as_json:
        print_json(details)
        return
    details["memory"] = format_size(details["memory"])
    details["uptime"] = format_uptime(details["uptime"])
    for key, value in details.items():
        if not isinstance(value, list):
            print(f"{key + ':':10} {'' if value is None else value}")
        elif value and isinstance(value[0], dict):
            for item in value:
                words = (f"{k}={_word(v)}" for k, v in item.items() if v not in (None, [], ""))
                print(f"{key.rstrip('s') + ':':10} {' '.join(words)}")
        else:
            print(f"{key + ':':10} {_word(value)}")


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@qorch.command()
@names_argument
@wait_option
def start(names: tuple[str, ...], *, wait: float | None) -> None:
    """Start machines that are defined."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(client.start_machine, wait=wait, report=progress))


@qorch.command()
@names_argument
@timeout_option
def stop(names: tuple[str, ...], *, timeout: float | None) -> None:
    """Shut machines down: the guest is asked, and ended if it does not comply."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(client.stop_machine, grace=timeout, report=progress))


@qorch.command()
@names_argument
@timeout_option
@wait_option
def restart(names: tuple[str, ...], *, timeout: float | None, wait: float | None) -> None:
    """Shut machines down and start them again as they are defined now."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(client.restart_machine, grace=timeout, wait=wait, report=progress))


@qorch.command()
@names_argument
def kill(names: tuple[str, ...]) -> None:
    """End machines at once, without asking their guests."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(client.kill_machine, report=progress))


@qorch.command()
@names_argument
@volumes_option
def rm(names: tuple[str, ...], *, volumes: bool) -> None:
    """Stop and forget machines; their volumes stay unless --volumes is given."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(client.remove_machine, volumes=volumes, report=progress))


@qorch.command()
@name_argument
@click.option("--escape", default="^]", show_default=True, help="The key that leaves the console.")
def console(name: str, *, escape: str) -> None:
    """Connect this terminal to a machine's serial console."""
    from qorch.cli.terminal import connect, parse_escape

    try:
        key = parse_escape(escape)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--escape") from None
    with open_client() as client, client.open_console(name) as serial:
        connect(serial, key, f"Connected to {name}; {escape} leaves.")
    if sys.stdin.isatty():
        print(f"\nLeft {name}.", file=sys.stderr)


@qorch.command()
@name_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as more is printed.")
@click.option("-n", "--lines", type=click.IntRange(0), help="Only the last LINES lines.")
def log(name: str, *, follow: bool, lines: int | None) -> None:
    """Print what a machine's serial console printed since power-on."""
    with open_client() as client, client.open_log(name, lines=lines, follow=follow) as chunks:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


@qorch.command()
@click.argument("name", required=False)
@json_option
def events(name: str | None, *, as_json: bool) -> None:
    """Print events as they happen, of one machine or of all, until interrupted."""
    with open_client() as client, client.open_events(name) as stream:
        for event in stream:
            if as_json:
                print(json.dumps(event), flush=True)
                continue
            clock = time.strftime("%H:%M:%S", time.localtime(event.pop("time", time.time())))
            machine, what = event.pop("machine", ""), event.pop("event", "")
            rest = " ".join(f"{key}={value}" for key, value in event.items())
            print(f"{clock} {machine or '-'} {what} {rest}".rstrip(), flush=True)


@qorch.command()
@name_argument
@json_option
def ip(name: str, *, as_json: bool) -> None:
    """Print a machine's addresses; known before the guest has booted.

    Those that are planned; where none is, those that it got by DHCP or answers to. With --json all
    of them, told apart.
    """
    from qorch.network_client import NetworkClient

    with open_client() as client:
        networks = NetworkClient(client)
        if as_json:
            print_json(networks.find_addresses(name))
            return
        addresses = client.show_machine(name)["ips"]
        if not addresses:
            nics = networks.find_addresses(name)
            addresses = [ip for nic in nics for ip in nic["leased"] or nic["seen"]]
    for address in addresses:
        print(address)


@qorch.command()
@file_argument
@click.argument("name", required=False)
def cmdline(file: str, name: str | None) -> None:
    """Print the QEMU command line of a machine in FILE, one word per line; starts nothing."""
    document = read_document(file)
    from pathlib import Path

    from qorch.cmdline import make_words

    state = find_state(click.get_current_context())
    directory = Path(document.directory)
    words, notes = make_words(document.text, directory, document.file, name, state)
    for note in notes:
        where = f"{note.name}: " if note.name else ""
        click.echo(f"warning: {where}{note.message}", err=True)
    for word in words:
        print(word)


@qorch.command()
@click.option("--linger", type=SECONDS, metavar="SECONDS", help="End after so long without work.")
@click.option("--stop-machines", is_flag=True, help="Shut the machines down at the end.")
@click.option("--inherit", hidden=True, help="api=FD,lock=FD")
@click.option("--run", hidden=True, help="The run directory.")
@click.option("--data", hidden=True, help="The data directory.")
def serve(
    *,
    linger: float | None,
    stop_machines: bool,
    inherit: str | None,
    run: str | None,
    data: str | None,
) -> None:
    """Be the supervisor, in the foreground; other commands start one as they need it."""
    from pathlib import Path

    from qorch.paths import StateDir
    from qorch.serve import serve as be_supervisor

    state = find_state(click.get_current_context())
    if run and data:
        state = StateDir(Path(run), Path(data))
    fds = dict(part.split("=", 1) for part in inherit.split(",")) if inherit else {}
    be_supervisor(
        state,
        api=int(fds["api"]) if fds else None,
        lock=int(fds["lock"]) if fds else None,
        linger=linger,
        stop_machines=stop_machines,
    )


@qorch.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    Example: eval "$(qorch completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        print(kind(qorch, {}, "qorch", "_QORCH_COMPLETE").source())
