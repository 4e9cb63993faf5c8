"""Verbs about vm.toml itself: made of another description, and what it may say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from qorch.cli.options import read_bytes


@click.command("import-xml")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write to FILE."
)
def import_xml(file: str, output: str | None) -> None:
    """Write the vm.toml that describes the machine of a libvirt domain.

    FILE is its XML, as `virsh dumpxml --inactive NAME` prints it, or - for standard input. What
    cannot be carried over is named on standard error and in comments.

    Example: virsh dumpxml --inactive web | qorch import-xml - -o vm.toml
    """
    from qorch.importxml import import_xml as read
    from qorch.importxml import render

    imported = read(read_bytes(file))
    text = render(imported)
    for note in imported.notes:
        print(f"note: {note}", file=sys.stderr)
    if output is None:
        print(text, end="")
    else:
        Path(output).write_text(text)


@click.command()
def schema() -> None:
    """Print the JSON schema of vm.toml, for editors.

    Example: qorch schema > vm.schema.json
    """
    from qorch.schema import make_schema

    print(json.dumps(make_schema(), indent=2, ensure_ascii=False))
