"""What a vm.toml tells cloud-init in the guest."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.units import Name


@attrs.frozen(kw_only=True)
class UserSpec:
    """`[[vm.NAME.cloud_init.user]]`: an account in the guest.

    `password_file` holds a hash as in /etc/shadow (mkpasswd).
    """

    name: str
    ssh_keys: tuple[str, ...] = ()
    ssh_key_files: tuple[Path, ...] = ()
    groups: tuple[str, ...] = ()
    sudo: bool = False
    shell: str = "/bin/bash"
    password_file: Path | None = None


@attrs.frozen(kw_only=True)
class WriteFileSpec:
    """`[[vm.NAME.cloud_init.write_file]]`: a file in the guest, given here or taken from one."""

    path: str
    content: str | None = None
    source: Path | None = None
    owner: str | None = None
    permissions: str | None = None


@attrs.frozen(kw_only=True)
class CloudInitSpec:
    """`[vm.NAME.cloud_init]`: a NoCloud seed, attached as one more disk, renewed when it changes.

    `packages` are installed and `commands` (each a shell line) run on the first boot.
    `network_config`, `user_data`, `vendor_data` and `meta_data` are files that are given whole.
    """

    hostname: Name | None = None
    users: tuple[UserSpec, ...] = attrs.field(default=(), metadata={"toml": "user"})
    packages: tuple[str, ...] = ()
    package_update: bool | None = None
    commands: tuple[str, ...] = ()
    write_files: tuple[WriteFileSpec, ...] = attrs.field(
        default=(), metadata={"toml": "write_file"}
    )
    timezone: str | None = None
    locale: str | None = None
    user_data: Path | None = None
    vendor_data: Path | None = None
    meta_data: Path | None = None
    network_config: Path | None = None
