"""A TPM's back ends and front ends."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import Properties, json_word, option_word, properties
from qorch.spec import TpmModel


@attrs.frozen(kw_only=True)
class TpmdevEmulator:
    """`-tpmdev emulator`: swtpm behind a chardev."""

    id: str
    chardev: str

    def args(self) -> tuple[str, ...]:
        return "-tpmdev", option_word("emulator", properties(self))


@attrs.frozen(kw_only=True)
class TpmdevPassthrough:
    """`-tpmdev passthrough`: the host's own, which no other guest can have."""

    id: str
    path: Path
    cancel_path: Path | None = None

    def args(self) -> tuple[str, ...]:
        return "-tpmdev", option_word("passthrough", properties(self))


@attrs.frozen(kw_only=True)
class DeviceTpm:
    """`-device tpm-tis` or `tpm-crb`."""

    driver: TpmModel
    id: str
    tpmdev: str

    def properties(self) -> Properties:
        """As `device_add` would take them (a TPM has no hotplug)."""
        return properties(self)

    def args(self) -> tuple[str, ...]:
        return "-device", json_word(self.properties())
