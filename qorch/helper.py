"""Helper processes: what a machine needs beside QEMU, as command lines.

A helper talks to QEMU over one connection, made by us and handed to both: whoever of them ends, or
whoever kills us before QEMU runs, the other end sees it, so no helper outlives its purpose. One is
ready when it answers its protocol's simplest question.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.plan import MachinePlan
from qorch.plan.shares import SharePlan
from qorch.plan.tpm import TpmPlan
from qorch.spec import TpmVersion

_SWTPM_GET_CAPABILITY = struct.pack(">I", 1)  # CMD_GET_CAPABILITY (swtpm_ioctls(3))
_SWTPM_ANSWER = 8  # 64 bits of capabilities
_VHOST_GET_FEATURES = struct.pack("<III", 1, 1, 0)  # request, version, size (vhost-user)
_VHOST_ANSWER = 20  # the same header, and 64 bits


class Wire(enum.Enum):
    """How a helper is connected: by a socket that is connected, or one that it listens on."""

    CONNECTED = "connected"
    LISTENING = "listening"


@attrs.frozen(kw_only=True)
class Helper:
    """A process of a machine; `{fd}` in its words is the number of its socket.

    `question` is what it is asked to see that it is there, `answer` the length of the answer.
    """

    id: str
    words: tuple[str, ...]
    wire: Wire
    question: bytes
    answer: int
    directory: Path | None = None

    def args(self, fd: int) -> tuple[str, ...]:
        """Its command line."""
        return tuple(word.replace("{fd}", str(fd)) for word in self.words)


def make_helpers(plan: MachinePlan) -> Iterator[Helper]:
    """The helpers of a machine, in the order they are started."""
    if plan.tpm is not None and plan.tpm.program is not None:
        yield _make_swtpm(plan.tpm, plan.tpm.program)
    for share in plan.shares:
        if share.program is not None:
            yield _make_virtiofsd(share, share.program)


def make_mark(plan: MachinePlan, helper: str) -> str:
    """What a helper carries in its environment."""
    return f"{plan.owner}:helper/{plan.name}/{helper}"


def _make_swtpm(tpm: TpmPlan, program: Path) -> Helper:
    """It ends when the connection does (--terminate)."""
    version = ("--tpm2",) if tpm.spec.version is TpmVersion.V2_0 else ()
    words = ("--tpmstate", f"dir={tpm.directory},mode=0600", "--ctrl", "type=unixio,clientfd={fd}")
    return Helper(
        id="tpm",
        words=(str(program), "socket", *version, *words, "--terminate"),
        wire=Wire.CONNECTED,
        question=_SWTPM_GET_CAPABILITY,
        answer=_SWTPM_ANSWER,
        directory=tpm.directory,
    )


def _make_virtiofsd(share: SharePlan, program: Path) -> Helper:
    """It serves one connection and ends with it. `-o` is understood by QEMU's and by Rust's."""
    spec = share.spec
    path = str(spec.path).replace(",", "\\,")
    options = [f"source={path}"]
    if spec.cache is not None:
        none = "none" if program.parent.name == "qemu" else "never"
        options.append(f"cache={none if spec.cache in ('none', 'never') else spec.cache}")
    if spec.xattr:
        options.append("xattr")
    words = [word for option in options for word in ("-o", option)]
    return Helper(
        id=share.id,
        words=(str(program), "--fd={fd}", *words, *(["--readonly"] if spec.read_only else [])),
        wire=Wire.LISTENING,
        question=_VHOST_GET_FEATURES,
        answer=_VHOST_ANSWER,
    )
