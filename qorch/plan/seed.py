"""What a cloud-init seed says: cloud-init's NoCloud files, made from the spec alone.

The instance id is the machine's UUID and does not change with the seed: a new one would make
cloud-init do everything of a first boot again, on a disk that has been used since, from the guest's
commands to its SSH host keys. A machine whose disk is made anew begins anew by itself; whoever
wants more gives `meta_data`. The network configuration is applied at each boot.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from uuid import UUID

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.spec import CloudInitSpec, UserSpec, WriteFileSpec
from qorch.units import Name

_WHOLE = {
    "user_data": "user-data",
    "vendor_data": "vendor-data",
    "meta_data": "meta-data",
    "network_config": "network-config",
}


def make_seed_files(
    name: Name, uuid: UUID, cloud_init: CloudInitSpec, facts: Facts, problems: list[Problem]
) -> dict[str, str]:
    """The files by name; YAML is a superset of JSON, so JSON needs no YAML writer."""
    reader = _Reader(facts=facts, problems=problems, path=f"vm.{name}.cloud_init")
    hostname = cloud_init.hostname or name
    meta = {"instance-id": str(uuid), "local-hostname": hostname}
    made = {
        "user-data": f"#cloud-config\n{_json(_make_config(hostname, cloud_init, reader))}",
        "meta-data": _json(meta),
    }
    given = {
        file: reader.read(key, path)
        for key, file in _WHOLE.items()
        if (path := getattr(cloud_init, key)) is not None
    }
    return {**made, **given}


def _json(value: object) -> str:
    return f"{json.dumps(value, indent=1)}\n"


@attrs.frozen(kw_only=True)
class _Reader:
    """Files that the spec names, as they were found; what is wrong with one is a problem."""

    facts: Facts
    problems: list[Problem]
    path: str

    def read(self, key: str, path: Path) -> str:
        found = self.facts.files[path]
        if found.error is not None:
            self.problems.append(
                Problem(
                    f"{self.path}.{key}",
                    found.error,
                    "correct the path; one that is relative starts at the directory of the file",
                    on_host=True,
                )
            )
        return found.text or ""


def _make_config(hostname: str, cloud_init: CloudInitSpec, reader: _Reader) -> dict[str, object]:
    config: dict[str, object] = {"hostname": hostname, "manage_etc_hosts": True}
    if cloud_init.users:
        config["users"] = [
            _user(user, f"user[{index}]", reader) for index, user in enumerate(cloud_init.users)
        ]
    if cloud_init.write_files:
        config["write_files"] = [
            _file(item, f"write_file[{index}]", reader)
            for index, item in enumerate(cloud_init.write_files)
        ]
    further = {
        "packages": list(cloud_init.packages),
        "package_update": cloud_init.package_update,
        "runcmd": list(cloud_init.commands),
        "timezone": cloud_init.timezone,
        "locale": cloud_init.locale,
    }
    config |= {key: value for key, value in further.items() if value not in (None, [])}
    if cloud_init.network_config is not None:
        config["updates"] = {"network": {"when": ["boot-new-instance", "boot"]}}
    return config


def _user(user: UserSpec, key: str, reader: _Reader) -> dict[str, object]:
    account: dict[str, object] = {"name": user.name, "shell": user.shell, "lock_passwd": True}
    if user.groups:
        account["groups"] = list(user.groups)
    if user.sudo:
        account["sudo"] = "ALL=(ALL) NOPASSWD:ALL"
    if user.password_file is not None:
        text = reader.read(f"{key}.password_file", user.password_file)
        account |= {"lock_passwd": False, "hashed_passwd": text.strip()}
    keys = list(user.ssh_keys)
    for index, file in enumerate(user.ssh_key_files):
        text = reader.read(f"{key}.ssh_key_files[{index}]", file)
        keys += [line for line in text.splitlines() if line and line[0] != "#"]
    if keys:
        account["ssh_authorized_keys"] = keys
    return account


def _file(item: WriteFileSpec, key: str, reader: _Reader) -> dict[str, object]:
    """Content in base64: whatever is in it, cloud-init changes nothing of it."""
    content = item.content
    if item.source is not None:
        content = reader.read(f"{key}.source", item.source)
    file: dict[str, object] = {
        "path": item.path,
        "encoding": "b64",
        "content": base64.b64encode((content or "").encode()).decode(),
    }
    if item.owner is not None:
        file["owner"] = item.owner
    if item.permissions is not None:
        file["permissions"] = item.permissions
    return file
