"""Back ends: what a device is connected to on the host."""

from __future__ import annotations

import attrs

from qorch.option import key_values


@attrs.frozen(kw_only=True)
class AddFd:
    """`-add-fd`: makes an inherited file descriptor known as `/dev/fdset/SET`."""

    fd: int
    set: int

    def args(self) -> tuple[str, ...]:
        return "-add-fd", key_values(fd=self.fd, set=self.set)


@attrs.frozen(kw_only=True)
class Mon:
    """`-mon`: a monitor on a chardev; mode control is QMP."""

    chardev: str
    mode: str = "control"

    def args(self) -> tuple[str, ...]:
        return "-mon", key_values(**attrs.asdict(self))
