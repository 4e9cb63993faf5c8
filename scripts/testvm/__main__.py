"""Run a command as root in a VM that has this machine's file system, and leave nothing behind.

The VM's kernel is Debian's, with all that a small machine's kernel may lack: VLANs, bridges with
VLAN filtering, device-mapper, vhost, nbd, KVM. Programs and files are this machine's, at the same
paths; what the command writes is gone with the VM, except under --rw. There is no network but lo.

The exit status is the command's: 127 if it cannot be run, 128 + N if signal N ended it. Else it is
124 if the time was up, 125 if the VM died, 128 + N if signal N ended this program.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from guests import cache, testbed
from testvm.sandbox import run_in_sandbox

TIMED_OUT, VM_DIED = 124, 125  # as timeout(1) and chroot(1) have them
PASSED = (
    *("PATH", "HOME", "LANG", "TERM", "USER", "VIRTUAL_ENV", "PYENV_ROOT"),
    *("PYTHONDONTWRITEBYTECODE", "QORCH_CACHE"),
)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="testbed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--modprobe", default="", metavar="NAMES", help="load these modules first: kvm_amd,nbd")
    add(
        "--disk", action="append", default=[], metavar="SIZE", help="an empty disk; may be repeated"
    )
    add("--rw", action="append", default=[], type=Path, metavar="DIR", help="share it writable")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="set it for the command")
    add("--timeout", type=float, metavar="SECONDS", help="kill the VM after so long")
    add("--cpus", type=int, default=2)
    add("--memory", default="4GiB", metavar="SIZE")
    add("--shell", action="store_true", help="a shell, or the command, on this terminal")
    add("-v", "--verbose", action="store_true", help="say what is done, and when")
    add("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        del options.command[0]
    if options.shell and not options.command:
        options.command = ["/bin/bash", "-i"]
    if not options.command:
        parser.error("which command?")
    for directory in options.rw:
        if not directory.is_dir():
            parser.error(f"{directory} is no directory")
    return options


def make_environment(assignments: list[str]) -> dict[str, str]:
    """Return the command's environment: some of ours, what was asked for, TESTBED=1."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    asked = dict(each.partition("=")[::2] for each in assignments)
    return {**passed, **asked, "TESTBED": "1"}


def run(options: argparse.Namespace, guest: Path, directory: Path) -> int:
    """Run the command, in the sandbox; the exit status."""
    import trio  # noqa: PLC0415  imported by the sandbox's process alone
    from testvm.machine import (  # noqa: PLC0415
        Request,
        SignalError,
        TimeUpError,
        VmError,
        run_vm,
    )

    from qorch.errors import QorchError  # noqa: PLC0415

    request = Request(
        command=tuple(options.command),
        directory=Path.cwd(),
        environment=make_environment(options.env),
        modules=tuple(options.modprobe.replace(",", " ").split()),
        disks=tuple(options.disk),
        writable=tuple(path.resolve() for path in options.rw),
        cpus=options.cpus,
        memory=options.memory,
        timeout=options.timeout,
        terminal=options.shell,
        verbose=options.verbose,
    )
    try:
        return trio.run(run_vm, request, guest, directory)
    except TimeUpError as error:
        complain(f"not done after {options.timeout:g} s; the VM's console:\n{error}")
        return TIMED_OUT
    except SignalError as error:
        return 128 + error.number
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except (VmError, QorchError) as error:
        complain(str(error))
        return VM_DIED


def complain(text: str) -> None:
    """Say what went wrong."""
    print(f"testbed: {text}", file=sys.stderr)


def main() -> int:
    """Build the VM unless it is there, and run the command in it."""
    options = parse_options()
    try:
        guest = cache.ensure(testbed.GUEST, cache=cache.find_cache())
        status = run_in_sandbox(guest / "run", lambda: run(options, guest, guest / "run"))
    except cache.BuildError as error:
        complain(str(error))
        return VM_DIED
    except OSError as error:
        complain(f"no namespaces of its own: {error.strerror}")
        return VM_DIED
    return status if status >= 0 else VM_DIED


if __name__ == "__main__":
    sys.exit(main())
