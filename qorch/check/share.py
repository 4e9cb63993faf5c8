"""Shared directories."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qorch.errors import Problem
from qorch.spec import MachineSpec, ShareSpec, ShareType

_MAX_9P_TAG = 31  # hw/9pfs/9p.h, MAX_TAG_LEN less its NUL
_MAX_VIRTIOFS_TAG = 36  # virtio 1.2, 5.11.4
_MAX_QUEUE = 1024  # VIRTQUEUE_MAX_SIZE
_VIRTIOFS_KEYS = ("cache", "xattr", "queue_size", "socket", "binary", "bootindex")
_9P_KEYS = ("security_model", "fmode", "dmode", "multidevs", "writeout")


def find_share_problems(vm: MachineSpec) -> Iterator[Problem]:
    """What is wrong with a machine's shares; paths start below the machine."""
    tags: dict[str, int] = {}
    for index, share in enumerate(vm.shares):
        path = f".share[{index}]"
        first = tags.setdefault(share.tag, index)
        if first != index:
            yield Problem(
                f"{path}.tag",
                f"{share.tag!r} is the tag of share[{first}] already",
                "give it another tag",
            )
        for problem in _share(share):
            yield Problem(f"{path}{problem.path}", problem.message, problem.hint)


def _share(share: ShareSpec) -> Iterator[Problem]:
    is_9p = share.type is ShareType.P9
    longest = _MAX_9P_TAG if is_9p else _MAX_VIRTIOFS_TAG
    if not 0 < len(share.tag.encode()) <= longest:
        yield Problem(".tag", f"is not 1 to {longest} bytes long", 'such as "data"')
    if share.path is None and (is_9p or share.socket is None):
        yield Problem(".path", "is missing", "name the directory to share")
    if share.path is not None and share.socket is not None:
        yield Problem(".socket", "goes without a path", "whoever runs virtiofsd tells it the path")
    for key in _VIRTIOFS_KEYS if is_9p else _9P_KEYS:
        if getattr(share, key) not in (None, False):
            other = ShareType.VIRTIOFS if is_9p else ShareType.P9
            yield Problem(f".{key}", f"is for {other.value} shares", f'type = "{other.value}"')
    for key in ("fmode", "dmode"):
        mode = getattr(share, key)
        if mode is not None and not re.fullmatch("0?[0-7]{1,4}", mode):
            yield Problem(f".{key}", f"{mode!r} is no mode", 'octal, such as "0644"')
    yield from _words(share)


def _words(share: ShareSpec) -> Iterator[Problem]:
    if share.cache not in (None, "auto", "always", "never", "none"):
        yield Problem(".cache", f"{share.cache!r} is none of auto, always, never", '"auto" will do')
    size = share.queue_size
    if size is not None and (not 2 <= size <= _MAX_QUEUE or size & (size - 1)):
        hint = f"a power of two up to {_MAX_QUEUE}"
        yield Problem(".queue_size", f"{size} is no size of a queue", hint)
    if share.multidevs not in (None, "remap", "forbid", "warn"):
        yield Problem(
            ".multidevs",
            f"{share.multidevs!r} is none of remap, forbid, warn",
            '"remap" keeps files of several file systems apart',
        )
