"""DHCP options that dnsmasq would not take: it is asked, and nothing is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from qorch_net.dnsmasq.config import make_option
from qorch_net.dnsmasq.service import find_program
from qorch_net.errors import NetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from qorch_net.plan import DhcpOption


def find_bad_options(
    options: Collection[DhcpOption], *, dnsmasq: Path | str = "dnsmasq"
) -> Iterator[tuple[DhcpOption, str]]:
    """Find those that it refuses, with its words: unknown names, values of another kind.

    Raises NetError if it cannot be asked.
    """
    if not options:
        return
    program = find_program(dnsmasq)
    if _ask(program, options) is not None:
        for option in options:
            if said := _ask(program, [option]):
                yield option, said


def _ask(program: str, options: Collection[DhcpOption]) -> str | None:
    """What is wrong with them; None if nothing is."""
    words = [program, "--test", f"--conf-file={os.devnull}"]
    words += [f"--{make_option(option)}" for option in options]
    try:
        done = subprocess.run(
            words,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise NetError(f"cannot run {program}: {error.strerror}") from error
    said = done.stderr.decode(errors="replace").strip().rpartition(": ")[2]
    return said or "dnsmasq does not take it" if done.returncode else None
