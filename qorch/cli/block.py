"""The verbs about machines' disks: snapshot, job, backup, media, and moves of volumes."""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from urllib.parse import quote

import click

from qorch.block_client import BlockClient
from qorch.cli.errors import for_each
from qorch.cli.options import json_option, name_argument, names_argument, open_client
from qorch.cli.output import Progress, print_json, print_table

_DISK = click.argument("disk")
_SNAPSHOT = click.argument("snapshot")


@click.group()
def snapshot() -> None:
    """Snapshots of a machine's disks, running or not."""


@snapshot.command("create")
@name_argument
@_SNAPSHOT
@click.option("--description", default="", help="Words for people.")
@click.option(
    "--freeze/--no-freeze",
    default=None,
    help="Have the guest agent freeze the file systems, or fail; by default where one answers.",
)
@click.option("--memory", is_flag=True, help="Keep what the running guest has in memory, too.")
def create_snapshot(
    name: str, snapshot: str, *, description: str, freeze: bool | None, memory: bool
) -> None:
    """Freeze all disks of a machine as they are, at one moment, while it runs or not."""
    with Progress() as progress, open_client() as client:
        BlockClient(client).create_snapshot(
            name, snapshot, description=description, freeze=freeze, memory=memory, report=progress
        )


@snapshot.command("ls")
@name_argument
@json_option
def list_snapshots(name: str, *, as_json: bool) -> None:
    """List a machine's snapshots as a tree; `*` is the one it went on from."""
    with open_client() as client:
        rows = BlockClient(client).find_snapshots(name)
    if as_json:
        print_json([{key: row[key] for key in row if key != "branch"} for row in rows])
        return
    print_table(
        ("snapshot", "time", "state", "description"),
        [
            (
                f"{row['branch']}{row['name']}{' *' if row['current'] else ''}",
                _format_time(row["time"]),
                _describe_state(row),
                row["description"],
            )
            for row in rows
        ],
    )


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _describe_state(row: dict[str, Any]) -> str:
    more = [word for word in ("memory", "frozen") if row[word]]
    return " ".join([row["state"], *more])


@snapshot.command("revert")
@name_argument
@_SNAPSHOT
@click.option("--disks-only", is_flag=True, help="Boot, even if the snapshot has memory.")
def revert_snapshot(name: str, snapshot: str, *, disks_only: bool) -> None:
    """Go back to a snapshot; what was written since the last one is lost.

    A machine that runs is ended as if its power failed, and started again. From a snapshot with
    memory the guest goes on as it was.
    """
    with Progress() as progress, open_client() as client:
        BlockClient(client).revert_snapshot(name, snapshot, memory=not disks_only, report=progress)


@snapshot.command("rm")
@name_argument
@_SNAPSHOT
def remove_snapshot(name: str, snapshot: str) -> None:
    """Forget a snapshot; its images are merged into those that stay, while the guest runs on."""
    with Progress() as progress, open_client() as client:
        BlockClient(client).remove_snapshot(name, snapshot, report=progress)


@click.group()
def backup() -> None:
    """Backups of a machine's disks into a directory."""


_DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, resolve_path=True))


@backup.command("create")
@name_argument
@_DIRECTORY
@click.option("--incremental", is_flag=True, help="Only what has changed since the last one there.")
@click.option(
    "--freeze/--no-freeze",
    default=None,
    help="Have the guest agent freeze the file systems, or fail; by default where one answers.",
)
def create_backup(name: str, directory: str, *, incremental: bool, freeze: bool | None) -> None:
    """Copy all disks as they are at one moment, while the guest writes on."""
    with Progress() as progress, open_client() as client:
        BlockClient(client).create_backup(
            name, directory, incremental=incremental, freeze=freeze, report=progress
        )


@backup.command("ls")
@name_argument
@_DIRECTORY
@json_option
def list_backups(name: str, directory: str, *, as_json: bool) -> None:
    """List a machine's backups in a directory."""
    with open_client() as client:
        rows = BlockClient(client).find_backups(name, directory)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("backup", "time", "builds on", "disks"),
        [
            (row["id"], _format_time(row["time"]), row["parent"], " ".join(row["disks"]))
            for row in rows
        ],
    )


@backup.command("restore")
@name_argument
@_DIRECTORY
@click.argument("backup")
def restore_backup(name: str, directory: str, backup: str) -> None:
    """Give a stopped machine's disks what a backup holds, in new volumes."""
    with Progress() as progress, open_client() as client:
        BlockClient(client).restore_backup(name, directory, backup, report=progress)


@backup.command("serve")
@name_argument
@click.option(
    "--socket",
    required=True,
    type=click.Path(resolve_path=True),
    help="The Unix socket to serve on; it must not exist.",
)
@click.option("--since", help="Also tell what has changed since this checkpoint.")
@click.option("--checkpoint", help="Record from now on what changes, under this name.")
@click.option(
    "--freeze/--no-freeze",
    default=None,
    help="Have the guest agent freeze the file systems, or fail; by default where one answers.",
)
def serve_backup(
    name: str, *, socket: str, since: str | None, checkpoint: str | None, freeze: bool | None
) -> None:
    """Serve all disks as they are at one moment, read-only over NBD, for others to copy.

    Prints the URL of each, and waits for `qorch backup end NAME`. Ctrl-C ends it, too, and keeps no
    checkpoint. With --since, what has changed is the metadata context
    qemu:dirty-bitmap:qorch-since.
    """

    def tell(line: dict[str, Any]) -> None:
        for disk in line["disks"]:
            click.echo(f"nbd+unix:///{disk}?socket={quote(socket)}")

    with open_client() as client:
        BlockClient(client).serve_backup(
            name, socket, since=since, checkpoint=checkpoint, freeze=freeze, report=tell
        )


@backup.command("end")
@name_argument
def end_export(name: str) -> None:
    """End what `backup serve` serves, and keep its checkpoint: all was read."""
    with open_client() as client:
        BlockClient(client).end_export(name)


@click.group()
def job() -> None:
    """Long work on the disks of running machines."""


@job.command("ls")
@json_option
def list_jobs(*, as_json: bool) -> None:
    """List jobs and how far they have come."""
    with open_client() as client:
        rows = BlockClient(client).find_jobs()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("machine", "job", "what", "state", "done"),
        [
            (row["machine"], row["job"], row["what"], row["state"], f"{row['percent']} %")
            for row in rows
        ],
    )


@job.command("cancel")
@name_argument
@click.argument("job", required=False)
def cancel_job(name: str, job: str | None) -> None:
    """End a machine's jobs, or one; what they were for is undone."""
    with open_client() as client:
        BlockClient(client).cancel_job(name, job)


@click.command("move")
@name_argument
@_DISK
@click.option("--pool", required=True, help="The pool that it shall lie in.")
@click.option("--format", "image_format", help="raw or qcow2; by default what suits the pool.")
def move_disk(name: str, disk: str, *, pool: str, image_format: str | None) -> None:
    """Move what a machine's DISK (disk0, …) holds into another pool or format, live.

    It is one image then: all it has built on is copied. The volume it was in is removed, unless a
    snapshot needs it.
    """
    with Progress() as progress, open_client() as client:
        BlockClient(client).move_disk(
            name, disk, pool=pool, image_format=image_format, report=progress
        )


@click.command("flatten")
@name_argument
@_DISK
def flatten_disk(name: str, disk: str) -> None:
    """Copy what a machine's DISK reads from the images below into its own, running or not."""
    with Progress() as progress, open_client() as client:
        BlockClient(client).flatten_disk(name, disk, report=progress)


@click.command("set")
@name_argument
@_DISK
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
def set_disk(name: str, disk: str, settings: tuple[str, ...]) -> None:
    """Change a machine's DISK (disk0, …) while it runs: its size, or what it may do in a second.

    KEY is size, or one of throttle's in vm.toml: iops_total, bps_total, bps_read, … Limits that are
    not named are none, so that bps_total=0 lifts all.

    Example: qorch set web disk0 iops_total=500 bps_write=20MB
    """
    values = dict(_read_setting(word) for word in settings)
    size = values.pop("size", None)
    with Progress() as progress, open_client() as client:
        disks = BlockClient(client)
        if size is not None:
            disks.grow_disk(name, disk, size=size, report=progress)
        if values:
            disks.limit_disk(name, disk, limits=values, report=progress)


def _read_setting(word: str) -> tuple[str, int]:
    from qorch.units import Size

    key, _, text = word.partition("=")
    try:
        return key, int(text) if text.isdecimal() else int(Size.from_text(text))
    except ValueError as error:
        raise click.BadParameter(f"{word!r}: {error}", param_hint="KEY=VALUE") from None


@click.command("media")
@name_argument
@_DISK
@click.argument("path", required=False, type=click.Path(exists=True, resolve_path=True))
@click.option("--eject", is_flag=True, help="Only take out what is in it.")
@click.option("--force", is_flag=True, help="Open a tray that the guest has locked.")
def change_medium(name: str, disk: str, path: str | None, *, eject: bool, force: bool) -> None:
    """Put the image PATH into a running machine's drive DISK, or take out what is in it.

    It is there until the machine is started anew, or `qorch up` changes it back.
    """
    if eject is (path is not None):
        raise click.UsageError("give either a PATH or --eject")
    with Progress() as progress, open_client() as client:
        BlockClient(client).change_medium(name, disk, path=path, force=force, report=progress)


@click.command()
@names_argument
def pause(names: tuple[str, ...]) -> None:
    """Stop guests' clocks until they are resumed."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(BlockClient(client).pause_machine, report=progress))


@click.command()
@names_argument
def resume(names: tuple[str, ...]) -> None:
    """Let guests go on that were paused, by somebody or because a disk's pool was full."""
    with Progress() as progress, open_client() as client:
        for_each(names, partial(BlockClient(client).resume_machine, report=progress))
