"""Golden pairs: vm.toml and the command line that it becomes on the fake host."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from fake_host import ROOT, SOFT_KVM, plan_text

from qorch.argv import make_argv
from qorch.handles import Handles
from qorch.plan import MachinePlan

DIRECTORY = Path(__file__).parent.parent / "goldens"
QEMU = Path("qemu-system-x86_64")


def find_names() -> list[str]:
    """The names of all pairs."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def plan_golden(name: str, root: Path = ROOT) -> MachinePlan:
    """The plan of the pair's one machine, its files under `root`.

    The fake host's KVM is this project's own machines': it knows few MSRs.
    """
    text = (DIRECTORY / f"{name}.toml").read_text()
    (machine,) = plan_text(text, root=root, kvm=SOFT_KVM).machines.values()
    return machine


def make_lines(name: str) -> str:
    """What NAME.argv shall be: one switch per line."""
    plan = plan_golden(name)
    words = make_argv(plan, Handles.from_numbers(plan), QEMU)
    return "".join(f"\n{word}" if word[0] == "-" else f" {word}" for word in words).strip() + "\n"


def show(*, write: bool) -> bool:
    """Show what differs from the files, rewrite them if asked to; whether they are right now."""
    same = True
    for name in find_names():
        path = DIRECTORY / f"{name}.argv"
        old, new = path.read_text() if path.exists() else "", make_lines(name)
        before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(before, after, path.name, f"{path.name} now"))
        if write and old != new:
            path.write_text(new)
        same = same and (write or old == new)
    return same


if __name__ == "__main__":
    sys.exit(not show(write="--write" in sys.argv[1:]))
