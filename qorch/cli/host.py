"""The verbs about the host as a whole. They work without a supervisor."""

from __future__ import annotations

from typing import Any

import click

from qorch.cli.options import find_state, json_option, open_client
from qorch.cli.output import Progress, print_json, print_table

_MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check the host: KVM, programs, networks, firewalls, leftovers.

    Exit status 1 if something is wrong.
    """
    from qorch.doctor import examine

    findings = examine(find_state(click.get_current_context()))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(f"{_MARKS[finding.level]:6} {finding.check}: {finding.message}")
            for hint in finding.hints:
                print(f"{'':6} hint: {hint}")
    if any(finding.level == "wrong" for finding in findings):
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--remove", is_flag=True, help="Remove it.")
@json_option
def gc(*, remove: bool, as_json: bool) -> None:
    """List what carries this state directory's mark and belongs to nothing.

    Nothing is changed without --remove, and what is not ours is never touched.
    """
    from qorch.leftovers import find_leftovers
    from qorch.network_client import NetworkClient

    state = find_state(click.get_current_context())
    found = find_leftovers(state)
    rows: list[dict[str, Any]] = [
        {"kind": x.kind, "name": x.name, "of": x.label, "removed": False} for x in found
    ]
    if remove and found:
        with Progress() as progress, open_client() as client:
            NetworkClient(client).remove_leftovers(report=progress)
        left = {(x.kind, x.name) for x in find_leftovers(state)}
        for row in rows:
            row["removed"] = (row["kind"], row["name"]) not in left
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            ("kind", "name", "of", *(["removed"] if remove else [])),
            [
                [row["kind"], row["name"], row["of"]]
                + (["yes" if row["removed"] else "no"] if remove else [])
                for row in rows
            ],
        )
    if remove and not all(row["removed"] for row in rows):
        raise click.exceptions.Exit(1)
