"""What a vm.toml tells cloud-init in the guest."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.units import Name


@attrs.frozen(kw_only=True)
class UserSpec:
    """`[[vm.NAME.cloud_init.user]]`: an account in the guest."""

    name: str
    ssh_keys: tuple[str, ...] = ()
    ssh_key_files: tuple[Path, ...] = ()
    groups: tuple[str, ...] = ()
    sudo: bool = False
    shell: str = "/bin/bash"


@attrs.frozen(kw_only=True)
class CloudInitSpec:
    """`[vm.NAME.cloud_init]`: a NoCloud seed, attached as one more disk."""

    hostname: Name | None = None
    users: tuple[UserSpec, ...] = attrs.field(default=(), metadata={"toml": "user"})
