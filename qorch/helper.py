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

from qorch.plan import MachinePlan, NicPlan
from qorch.plan.shares import SharePlan
from qorch.plan.tpm import TpmPlan
from qorch.spec import TpmVersion, UserForwardSpec, UserNetSpec

_SWTPM_GET_CAPABILITY = struct.pack(">I", 1)  # CMD_GET_CAPABILITY (swtpm_ioctls(3))
_SWTPM_ANSWER = 8  # 64 bits of capabilities
_VHOST_GET_FEATURES = struct.pack("<III", 1, 1, 0)  # request, version, size (vhost-user)
_VHOST_ANSWER = 20  # the same header, and 64 bits
_ARP = struct.Struct(">6s6sHHHBBH6s4s6s4s")  # an Ethernet frame of IPv4's (RFC 826)
_LENGTH = struct.Struct(">I")  # before each frame of a stream (QEMU's net/stream.c)
_NOBODY = bytes((192, 0, 2, 1))  # RFC 5737: passt answers for every address but the guest's
_USUAL_GATEWAY, _USUAL_GUEST = 2, 15  # of QEMU's own network (libslirp)


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
    for nic in plan.nics:
        if nic.program is not None and nic.spec.user is not None:
            yield _make_passt(nic, nic.spec.user, nic.program)


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


def _make_passt(nic: NicPlan, user: UserNetSpec, program: Path) -> Helper:
    """It ends when the connection does. It is asked who has an address, by the guest's card."""
    mac = bytes.fromhex(nic.mac.replace(":", ""))
    frame = _ARP.pack(
        *(b"\xff" * 6, mac, 0x0806),
        *(1, 0x0800, 6, 4, 1),
        *(mac, bytes(4), bytes(6), _NOBODY),
    )
    return Helper(
        id=nic.id,
        words=(str(program), "--foreground", "--stderr", "--fd", "{fd}", *_passt_words(nic, user)),
        wire=Wire.CONNECTED,
        question=_LENGTH.pack(len(frame)) + frame,
        answer=_LENGTH.size + len(frame),
    )


def _passt_words(nic: NicPlan, user: UserNetSpec) -> Iterator[str]:
    """What passt is told; what it is not, is as on the host."""
    if user.net is not None:
        yield from ("--address", str(user.dhcp_start or user.net[_USUAL_GUEST]))
        yield from ("--netmask", str(user.net.prefixlen))
        yield from ("--gateway", str(user.host or user.net[_USUAL_GATEWAY]))
    if user.net6 is not None:
        yield from ("--address", str(user.net6[_USUAL_GUEST]))
    if user.dns is not None:
        yield from ("--dns", str(user.dns))
    if user.interface is not None:
        yield from ("--interface", user.interface)
    if nic.mtu is not None:
        yield from ("--mtu", str(nic.mtu))
    for forward in user.forwards:
        yield from (f"--{forward.proto.value}-ports", _passt_port(forward))


def _passt_port(forward: UserForwardSpec) -> str:
    host = f"{forward.host}/" if forward.host else ""
    return f"{host}{forward.host_port}:{forward.port}"
