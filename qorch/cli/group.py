"""A group of verbs, some of which are imported when they are asked for."""

from __future__ import annotations

import importlib

import click

_LATER = {  # groups of verbs and their modules: `qorch ls` does without
    "doctor": "qorch.cli.host",
    "gc": "qorch.cli.host",
    "backup": "qorch.cli.block",
    "job": "qorch.cli.block",
    "network": "qorch.cli.networks",
    "media": "qorch.cli.block:change_medium",
    "pause": "qorch.cli.block",
    "pool": "qorch.cli.volumes",
    "resume": "qorch.cli.block",
    "set": "qorch.cli.block:set_disk",
    "snapshot": "qorch.cli.block",
    "volume": "qorch.cli.volumes",
}


class Verbs(click.Group):
    """All verbs: those that were added, and those that are not loaded yet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all."""
        return sorted({*super().list_commands(ctx), *_LATER})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One verb, or group of verbs."""
        if cmd_name in _LATER and cmd_name not in self.commands:
            module, _, other = _LATER[cmd_name].partition(":")
            self.add_command(getattr(importlib.import_module(module), other or cmd_name))
        return super().get_command(ctx, cmd_name)
