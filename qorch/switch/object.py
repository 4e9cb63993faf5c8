"""Objects: back ends and settings that devices and servers refer to by id."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import NOT_A_PROPERTY, Properties, json_word, properties


@attrs.frozen(kw_only=True)
class Object:
    """`-object`, whatever it is; `qom_type` is QEMU's name of it."""

    id: str
    qom_type: str = attrs.field(metadata=NOT_A_PROPERTY)

    def properties(self) -> Properties:
        """As `object-add` takes them."""
        return {"qom-type": self.qom_type, **properties(self)}

    def args(self) -> tuple[str, ...]:
        return "-object", json_word(self.properties())


@attrs.frozen(kw_only=True)
class ObjectRngRandom(Object):
    """Random numbers from a file of the host."""

    qom_type: str = attrs.field(default="rng-random", metadata=NOT_A_PROPERTY)
    filename: Path = Path("/dev/urandom")


@attrs.frozen(kw_only=True)
class ObjectRngEgd(Object):
    """Random numbers from a daemon that speaks EGD's protocol."""

    qom_type: str = attrs.field(default="rng-egd", metadata=NOT_A_PROPERTY)
    chardev: str


@attrs.frozen(kw_only=True)
class ObjectTlsCredsX509(Object):
    """Certificates: QEMU's own directory of them, unless another is named."""

    qom_type: str = attrs.field(default="tls-creds-x509", metadata=NOT_A_PROPERTY)
    dir: Path = Path("/etc/pki/qemu")
    endpoint: str = "server"
    verify_peer: bool | None = None


@attrs.frozen(kw_only=True)
class ObjectSecret(Object):
    """A secret from a file: QEMU reads it, and no process list shows it."""

    qom_type: str = attrs.field(default="secret", metadata=NOT_A_PROPERTY)
    file: Path
    format: str | None = None


@attrs.frozen(kw_only=True)
class ObjectThrottleGroup(Object):
    """Limits that the disks of a group share; the values are those of qapi ThrottleLimits."""

    qom_type: str = attrs.field(default="throttle-group", metadata=NOT_A_PROPERTY)
    limits: dict[str, int] = attrs.field(metadata={"qemu": "limits"})

    def properties(self) -> Properties:
        """As `object-add` takes them."""
        return {"qom-type": self.qom_type, "id": self.id, "limits": dict(self.limits)}


@attrs.frozen(kw_only=True)
class ObjectCryptodev(Object):
    """`cryptodev-backend-*`."""

    queues: int | None = None


@attrs.frozen(kw_only=True)
class ObjectMemoryFile(Object):
    """Memory that is a file, for other guests to have as well; size in bytes."""

    qom_type: str = attrs.field(default="memory-backend-file", metadata=NOT_A_PROPERTY)
    mem_path: Path
    size: int
    share: bool = True


@attrs.frozen(kw_only=True)
class ObjectConfidential(Object):
    """`sev-guest` and the like; `more` are properties of its own."""

    dh_cert_file: Path | None = None
    session_file: Path | None = None
    more: dict[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ObjectInputLinux(Object):
    """An input device of the host, as a keyboard or mouse of the guest's."""

    qom_type: str = attrs.field(default="input-linux", metadata=NOT_A_PROPERTY)
    evdev: Path
    more: dict[str, object] = attrs.field(factory=dict)
