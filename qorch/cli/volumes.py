"""The verbs about pools and volumes. A volume is called NAME in the built-in pool, or POOL/NAME."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from qorch.cli.block import flatten_disk, move_disk
from qorch.cli.options import json_option, open_client
from qorch.cli.output import Progress, format_size, print_json, print_table
from qorch.storage_client import StorageClient

DEFAULT_POOL = "default"
_FORMATS = ("raw", "qcow2", "vmdk", "vdi", "qed", "luks")
_SUFFIXES = {".iso": "raw"} | {f".{form}": form for form in _FORMATS}
_BLOCK = 1 << 16  # bytes: so many zeroes become a hole in a file

F = TypeVar("F", bound=Callable[..., Any])


class VolumeName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`NAME`, or `POOL/NAME`."""

    name = "volume"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split it; a name with more slashes is none."""
        if isinstance(value, tuple):
            return value
        pool, slash, name = str(value).partition("/")
        pool, name = (pool, name) if slash else (DEFAULT_POOL, pool)
        if not pool or not name or "/" in name:
            self.fail(f"{value!r} is not a volume: write NAME or POOL/NAME", param, ctx)
        return pool, name


class ByteSize(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A size with a unit: `10GiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; a usage error says what is wrong."""
        from qorch.units import Size

        try:
            return int(Size.from_text(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


VOLUME, SIZE = VolumeName(), ByteSize()
FORMAT = click.Choice(_FORMATS)
PATH = click.Path(path_type=Path, resolve_path=False)

volume_argument = click.argument("volume", type=VOLUME)
new_argument = click.argument("new", type=VOLUME)
format_option = click.option("--format", "form", type=FORMAT, help="The format of the new volume.")
passphrase_option = click.option(
    "--passphrase-file", type=PATH, help="Encrypt it (LUKS) with the passphrase in this file."
)
source_passphrase_option = click.option(
    "--source-passphrase-file", type=PATH, help="The passphrase of what is copied, if it has one."
)
compress_option = click.option("--compress", is_flag=True, help="Pack the data; only qcow2.")


def creation_options(command: F) -> F:
    """Options of volumes that are made."""
    for option in reversed(
        (
            format_option,
            click.option(
                "--preallocation",
                type=click.Choice(("off", "metadata", "falloc", "full")),
                default="off",
                show_default=True,
                help="How much of it gets its place at once.",
            ),
            click.option("--cluster-size", type=SIZE, help="Of qcow2 and qed."),
            click.option("--compression", type=click.Choice(("zlib", "zstd")), help="Of qcow2."),
            click.option("--lazy-refcounts", is_flag=True, help="Of qcow2: faster, less safe."),
            passphrase_option,
        )
    ):
        command = option(command)
    return command


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
    print_table((*keys, "note"), [[*_cells(row, keys), row["error"] or _warn(row)] for row in rows])


@pool.command("show")
@click.argument("name")
@json_option
def show_pool(name: str, *, as_json: bool) -> None:
    """Show everything about one pool."""
    with open_client() as client:
        _show(StorageClient(client).show_pool(name), as_json=as_json)


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
    print_table(keys, [_cells(row, keys) for row in rows])


@volume.command("show")
@volume_argument
@json_option
def show_volume(volume: tuple[str, str], *, as_json: bool) -> None:
    """Show a volume: what it builds on, what builds on it, who has it open."""
    with open_client() as client:
        _show(StorageClient(client).show_volume(*volume), as_json=as_json)


@volume.command("tree")
@json_option
def show_tree(*, as_json: bool) -> None:
    """Draw what builds on what."""
    with open_client() as client:
        nodes = StorageClient(client).find_tree()
    if as_json:
        print_json(nodes)
        return
    for line in _draw(nodes):
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
            backing=_absolute(backing),
            backing_format=backing_format,
            report=progress,
            **_creation(options),
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
    form = source_format or _guess(file, "--source-format")
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
        path=_absolute(Path(file)),
        source_format=form,
        compress=compress,
        source_passphrase_file=_absolute(source_passphrase_file),
        **_creation(options),
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
    form = form or _guess(file, "--format")
    if file == "-":
        query = {"format": form, "compress": "true" if compress else "false"}
        with open_client() as client, StorageClient(client).open_download(*volume, **query) as data:
            write_sparse(sys.stdout.buffer, data)
        return
    _act(
        volume,
        "export",
        path=_absolute(Path(file)),
        image_format=form,
        compress=compress,
        passphrase_file=_absolute(passphrase_file),
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
            *volume, repair=repair, passphrase_file=_absolute(passphrase_file)
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
    from qorch.cli.errors import for_each

    with Progress() as progress, open_client() as client:
        storage = StorageClient(client)

        def remove(which: str) -> None:
            pool, _, name = which.partition("/")
            storage.remove(pool, name, report=progress)

        for_each(("/".join(volume) for volume in volumes), remove)


def write_sparse(file: IO[bytes], pieces: Iterable[bytes]) -> None:
    """Write to a file with holes for zeroes; to a pipe or terminal, everything."""
    end = 0
    seekable = file.seekable() and not _appends(file)
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK):
            block = piece[start : start + _BLOCK]
            if seekable and not any(block):
                file.seek(len(block), os.SEEK_CUR)
            else:
                file.write(block)
        end += len(piece)
    file.flush()
    if seekable:
        os.truncate(file.fileno(), file.tell())


def _appends(file: IO[bytes]) -> bool:
    import fcntl

    return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_APPEND)


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
        source_passphrase_file=_absolute(source_passphrase_file),
        **_creation(options),
    )


def _creation(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `creation_options` as the API has them."""
    passphrase_file = _absolute(options.pop("passphrase_file"))
    return {"format": options.pop("form"), "passphrase_file": passphrase_file, **options}


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _guess(file: str, option: str) -> str:
    form = _SUFFIXES.get(Path(file).suffix.lower())
    if form is None:
        name = "standard input or output" if file == "-" else file
        raise click.UsageError(f"{name} may be of any format: give {option}")
    return form


def _cells(row: dict[str, Any], keys: Iterable[str]) -> list[object]:
    sizes = {"capacity", "allocation", "free", "promised", "size"}
    cells: list[object] = []
    for key in keys:
        value = row.get(key)
        if key in sizes and value is not None:
            value = format_size(value)
        cells.append(" ".join(value) if isinstance(value, list) else value)
    return cells


def _warn(row: dict[str, Any]) -> str:
    over = row["type"] == "lvm-thin" and (row["overcommit"] or 0) > 1
    return f"{row['overcommit']:.4g} times promised" if over else ""


def _show(details: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(details)
        return
    for key, value in details.items():
        (cell,) = _cells({key: value}, [key]) if not _is_table(value) else [""]
        print(f"{key + ':':17} {'' if cell is None else cell}".rstrip())
        for item in value if _is_table(value) else ():
            print(" " * 18 + " ".join(f"{k}={v}" for k, v in item.items() if v is not None))


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _draw(nodes: list[dict[str, Any]], before: str | None = None) -> Iterator[str]:
    for index, node in enumerate(nodes):
        last = index == len(nodes) - 1
        mark = "" if before is None else before + ("└─ " if last else "├─ ")
        below = "" if before is None else before + ("   " if last else "│  ")
        name = f"{node['pool']}/{node['name']}" if node["name"] else f"{node['path']} (in no pool)"
        yield mark + name
        yield from _draw(node["children"], below)


volume.add_command(move_disk)
volume.add_command(flatten_disk)
