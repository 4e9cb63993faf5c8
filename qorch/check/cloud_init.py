"""What cloud-init is told."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qorch.errors import Problem
from qorch.spec import CloudInitSpec

_MADE = ("users", "packages", "package_update", "commands", "write_files", "timezone", "locale")


def find_cloud_init_problems(cloud_init: CloudInitSpec) -> Iterator[Problem]:
    """What is wrong with a seed; paths start below the machine."""
    if cloud_init.user_data is not None:
        made = [key for key in _MADE if getattr(cloud_init, key) not in (None, ())]
        if made:
            message = f"is given whole, and so are not {', '.join(made)}"
            yield Problem(".cloud_init.user_data", message, "keep one of them")
    if cloud_init.meta_data is not None and cloud_init.hostname is not None:
        yield Problem(
            ".cloud_init.meta_data", "is given whole, and so is not hostname", "keep one of them"
        )
    yield from _users(cloud_init)
    yield from _files(cloud_init)


def _users(cloud_init: CloudInitSpec) -> Iterator[Problem]:
    for index, user in enumerate(cloud_init.users):
        path = f".cloud_init.user[{index}]"
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", user.name):
            hint = "a small letter first, then letters, digits, '-' and '_'"
            yield Problem(f"{path}.name", f"{user.name!r} is no name of a user", hint)
        for number, key in enumerate(user.ssh_keys):
            if not re.match(r"(.* )?\S+ AAAA", key):
                hint = "a line of a .pub file; ssh_key_files = … reads them"
                yield Problem(f"{path}.ssh_keys[{number}]", "is no public key", hint)


def _files(cloud_init: CloudInitSpec) -> Iterator[Problem]:
    for index, item in enumerate(cloud_init.write_files):
        path = f".cloud_init.write_file[{index}]"
        if (item.content is None) == (item.source is None):
            yield Problem(path, "has not one content", "give content = … or source = …")
        if not item.path.startswith("/"):
            yield Problem(
                f"{path}.path",
                f"{item.path!r} is no absolute path",
                "where it is in the guest: '/etc/…'",
            )
        if item.permissions is not None and not re.fullmatch("[0-7]{3,4}", item.permissions):
            yield Problem(f"{path}.permissions", f"{item.permissions!r} is no mode", '"0644"')
