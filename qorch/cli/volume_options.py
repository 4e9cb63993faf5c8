"""How volumes, sizes and what a new volume has are written on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_POOL = "default"
_FORMATS = ("raw", "qcow2", "vmdk", "vdi", "qed", "luks")
_SUFFIXES = {".iso": "raw"} | {f".{form}": form for form in _FORMATS}

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
            hint = getattr(error, "hint", None)
            self.fail(f"{error}: {hint}" if hint else str(error), param, ctx)


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


def read_creation(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `creation_options` as the API has them."""
    passphrase_file = absolute(options.pop("passphrase_file"))
    return {"format": options.pop("form"), "passphrase_file": passphrase_file, **options}


def absolute(path: Path | None) -> str | None:
    """A path as the API wants it."""
    return None if path is None else str(path.absolute())


def guess_format(file: str, option: str) -> str:
    """The format that a suffix promises; `option` would have said it."""
    form = _SUFFIXES.get(Path(file).suffix.lower())
    if form is None:
        name = "standard input or output" if file == "-" else file
        raise click.UsageError(f"{name} may be of any format: give {option}")
    return form
