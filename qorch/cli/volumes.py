"""The verbs about pools and volumes. A volume is called NAME in the built-in pool, or POOL/NAME."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from qorch.cli.block import flatten_disk, move_disk
from qorch.cli.errors import for_each
from qorch.cli.options import json_option, open_client
from qorch.cli.output import Progress, print_json, print_table
from qorch.cli.volume_options import (
    FORMAT,
    PATH,
    SIZE,
    VOLUME,
    absolute,
    compress_option,
    creation_options,
    format_option,
    guess_format,
    new_argument,
    read_creation,
    source_passphrase_option,
    volume_argument,
)
from qorch.cli.volume_output import (
    describe_overcommit,
    draw_tree,
    make_cells,
    print_details,
    write_sparse,
)
from qorch.storage_client import StorageClient


@click.group()
def pool() -> None:
    """Pools: places where volumes lie."""


@pool.command("ls")
@json_option
def list_pools(*, as_json: bool) -> None:
    """List the pools and their space."""
    with open_client() as client:
        rows = StorageClient(client).find_pools()
    if as_json:
        print_json(rows)
        return
    keys = ("name", "type", "path", "volumes", "capacity", "allocation", "free", "promised")
    print_table(
        (*keys, "note"),
        [[*make_cells(row, keys), row["error"] or describe_overcommit(row)] for row in rows],
    )


@pool.command("show")
@click.argument("name")
@json_option
def show_pool(name: str, *, as_json: bool) -> None:
    """Show everything about one pool."""
    with open_client() as client:
        print_details(StorageClient(client).show_pool(name), as_json=as_json)


@click.group()
def volume() -> None:
    """Volumes: images in pools, called NAME in the built-in pool or POOL/NAME."""


@volume.command("ls")
@click.argument("pool", required=False)
@json_option
def list_volumes(pool: str | None, *, as_json: bool) -> None:
    """List the volumes of a pool, or of all."""
    with open_client() as client:
        rows = StorageClient(client).find_volumes(pool)
    if as_json:
        print_json(rows)
        return
    keys = ("pool", "name", "format", "size", "allocation", "backing", "machines", "problem")
    print_table(keys, [make_cells(row, keys) for row in rows])


@volume.command("show")
@volume_argument
@json_option
def show_volume(volume: tuple[str, str], *, as_json: bool) -> None:
    """Show a volume: what it builds on, what builds on it, who has it open."""
    with open_client() as client:
        print_details(StorageClient(client).show_volume(*volume), as_json=as_json)


@volume.command("tree")
@json_option
def show_tree(*, as_json: bool) -> None:
    """Draw what builds on what."""
    with open_client() as client:
        nodes = StorageClient(client).find_tree()
    if as_json:
        print_json(nodes)
        return
    for line in draw_tree(nodes):
        print(line)


@volume.command("create")
@volume_argument
@click.option("--size", type=SIZE, help="By default that of the backing file.")
@click.option("--backing", type=PATH, help="Make it a qcow2 overlay on this image.")
@click.option("--backing-format", type=FORMAT, help="The format of the backing file.")
@creation_options
def create_volume(
    volume: tuple[str, str],
    backing: Path | None,
    backing_format: str | None,
    size: int | None,
    **options: Any,
) -> None:
    """Make a volume.

    Example: qorch volume create data --size 10GiB
    """
    with Progress() as progress, open_client() as client:
        StorageClient(client).create(
            *volume,
            size=size,
            backing=absolute(backing),
            backing_format=backing_format,
            report=progress,
            **read_creation(options),
        )


@volume.command("resize")
@volume_argument
@click.argument("size", type=SIZE)
@click.option("--force", is_flag=True, help="Shrink it, although what is at its end is lost.")
def resize_volume(volume: tuple[str, str], size: int, *, force: bool) -> None:
    """Make a volume larger, or with --force smaller."""
    _act(volume, "resize", size=size, force=force)


@volume.command("clone")
@volume_argument
@new_argument
@click.option(
    "--mode",
    type=click.Choice(("full", "linked", "thin")),
    default="full",
    show_default=True,
    help="A copy; an overlay that needs its origin; a snapshot within a thin pool.",
)
@compress_option
@source_passphrase_option
@creation_options
def clone_volume(
    volume: tuple[str, str],
    new: tuple[str, str],
    mode: str,
    source_passphrase_file: Path | None,
    *,
    compress: bool,
    **options: Any,
) -> None:
    """Make a volume NEW with the content of VOLUME."""
    _copy(volume, new, mode, source_passphrase_file, compress=compress, options=options)


@volume.command("convert")
@volume_argument
@new_argument
@compress_option
@source_passphrase_option
@creation_options
def convert_volume(
    volume: tuple[str, str],
    new: tuple[str, str],
    source_passphrase_file: Path | None,
    *,
    compress: bool,
    **options: Any,
) -> None:
    """Make a volume NEW with the content of VOLUME in another format or pool.

    Example: qorch volume convert web fast/web --format raw
    """
    _copy(volume, new, "full", source_passphrase_file, compress=compress, options=options)


@volume.command("import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@volume_argument
@click.option("--source-format", type=FORMAT, help="The format of FILE; by default its suffix.")
@compress_option
@source_passphrase_option
@creation_options
def import_volume(
    file: str,
    volume: tuple[str, str],
    source_format: str | None,
    source_passphrase_file: Path | None,
    *,
    compress: bool,
    **options: Any,
) -> None:
    """Make a volume of the image FILE, or of standard input if it is `-`."""
    form = source_format or guess_format(file, "--source-format")
    if file == "-":
        query = {"source_format": form}
        if options["form"]:
            query["format"] = options["form"]
        with open_client() as client:
            StorageClient(client).upload(*volume, sys.stdin.buffer, **query)
        return
    _act(
        volume,
        "import",
        path=absolute(Path(file)),
        source_format=form,
        compress=compress,
        source_passphrase_file=absolute(source_passphrase_file),
        **read_creation(options),
    )


@volume.command("export")
@volume_argument
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@format_option
@compress_option
@click.option("--passphrase-file", type=PATH, help="The passphrase of the volume, if it has one.")
def export_volume(
    volume: tuple[str, str],
    file: str,
    form: str | None,
    passphrase_file: Path | None,
    *,
    compress: bool,
) -> None:
    """Write a volume, and all it builds on, to the new image FILE, or to standard output as `-`."""
    form = form or guess_format(file, "--format")
    if file == "-":
        query = {"format": form, "compress": "true" if compress else "false"}
        with open_client() as client, StorageClient(client).open_download(*volume, **query) as data:
            write_sparse(sys.stdout.buffer, data)
        return
    _act(
        volume,
        "export",
        path=absolute(Path(file)),
        image_format=form,
        compress=compress,
        passphrase_file=absolute(passphrase_file),
    )


@volume.command("check")
@volume_argument
@click.option("--repair", type=click.Choice(("leaks", "all")), help="Repair what is found.")
@click.option("--passphrase-file", type=PATH, help="The passphrase of the volume, if it has one.")
@json_option
def check_volume(
    volume: tuple[str, str], repair: str | None, passphrase_file: Path | None, *, as_json: bool
) -> None:
    """Check a volume's own records; exit status 1 if something is wrong with them."""
    with open_client() as client:
        found = StorageClient(client).check(
            *volume, repair=repair, passphrase_file=absolute(passphrase_file)
        )
    if as_json:
        print_json(found)
    else:
        keys = ("corruptions", "leaks", "errors", "repaired")
        print(", ".join(f"{found[key]} {key}" for key in keys))
    if found["corruptions"] or found["errors"] or found["leaks"]:
        click.get_current_context().exit(1)


@volume.command("rename")
@volume_argument
@click.argument("name")
def rename_volume(volume: tuple[str, str], name: str) -> None:
    """Give a volume another name in its pool."""
    _act(volume, "rename", new=name)


@volume.command("wipe")
@volume_argument
def wipe_volume(volume: tuple[str, str]) -> None:
    """Overwrite a volume with zeroes, and remove it."""
    _act(volume, "wipe")


@volume.command("rm")
@click.argument("volumes", nargs=-1, required=True, type=VOLUME, metavar="VOLUME...")
def remove_volumes(volumes: tuple[tuple[str, str], ...]) -> None:
    """Remove volumes. Their data is lost."""
    with Progress() as progress, open_client() as client:
        storage = StorageClient(client)

        def remove(which: str) -> None:
            pool, _, name = which.partition("/")
            storage.remove(pool, name, report=progress)

        for_each(("/".join(volume) for volume in volumes), remove)


def _act(volume: tuple[str, str], verb: str, **options: Any) -> None:
    with Progress() as progress, open_client() as client:
        StorageClient(client).act(*volume, verb, report=progress, **options)


def _copy(
    volume: tuple[str, str],
    new: tuple[str, str],
    mode: str,
    source_passphrase_file: Path | None,
    *,
    compress: bool,
    options: dict[str, Any],
) -> None:
    to_pool, to = new
    _act(
        volume,
        "copy",
        to_pool=to_pool,
        to=to,
        mode=mode,
        compress=compress,
        source_passphrase_file=absolute(source_passphrase_file),
        **read_creation(options),
    )


volume.add_command(move_disk)
volume.add_command(flatten_disk)
