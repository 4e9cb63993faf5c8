"""What a cloud-init seed says: cloud-init's NoCloud files, made from the spec alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from qorch.errors import Problem
from qorch.facts import Facts, File
from qorch.spec import CloudInitSpec, UserSpec
from qorch.units import Name


def make_seed_files(
    name: Name, uuid: UUID, cloud_init: CloudInitSpec, facts: Facts, problems: list[Problem]
) -> dict[str, str]:
    """`user-data` and `meta-data`; YAML is a superset of JSON, so JSON needs no YAML writer.

    The instance id is the machine's UUID: cloud-init runs its per-instance steps once per machine.
    """
    hostname = cloud_init.hostname or name
    config: dict[str, object] = {"hostname": hostname, "manage_etc_hosts": True}
    if cloud_init.users:
        config["users"] = [
            _user(user, facts.files, f"vm.{name}.cloud_init.user[{index}]", problems)
            for index, user in enumerate(cloud_init.users)
        ]
    meta = {"instance-id": str(uuid), "local-hostname": hostname}
    return {
        "user-data": f"#cloud-config\n{json.dumps(config, indent=1)}\n",
        "meta-data": f"{json.dumps(meta, indent=1)}\n",
    }


def _user(
    user: UserSpec, files: Mapping[Path, File], path: str, problems: list[Problem]
) -> dict[str, object]:
    account: dict[str, object] = {"name": user.name, "shell": user.shell, "lock_passwd": True}
    if user.groups:
        account["groups"] = list(user.groups)
    if user.sudo:
        account["sudo"] = "ALL=(ALL) NOPASSWD:ALL"
    keys = list(user.ssh_keys)
    for index, file in enumerate(user.ssh_key_files):
        found = files[file]
        if found.error is not None:
            problems.append(Problem(f"{path}.ssh_key_files[{index}]", found.error, on_host=True))
        keys += [line for line in (found.text or "").splitlines() if line and line[0] != "#"]
    if keys:
        account["ssh_authorized_keys"] = keys
    return account
