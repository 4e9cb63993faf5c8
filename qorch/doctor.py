"""Look at the host as a whole: what runs machines here, and what stands in their way. Blocking."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from qorch.errors import QorchError
from qorch.helper import make_helpers
from qorch.helpers import find_helpers
from qorch.leftovers import find_leftovers
from qorch.paths import StateDir
from qorch.probe import find_kvm
from qorch.resources import is_locked
from qorch.state import Store
from qorch_net.errors import NetError
from qorch_net.forwarding import Switch
from qorch_net.plan import NetworkPlan
from qorch_storage.errors import StorageError

OK, NOTE, WRONG = "ok", "note", "wrong"
_OLDEST_QEMU = (7, 2)
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/libexec"])
_VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
_PROGRAMS = (  # name, Debian package, what for, whether nothing works without it
    ("qemu-system-x86_64", "qemu-system-x86", "runs the machines", True),
    ("qemu-img", "qemu-utils", "makes volumes", True),
    ("dnsmasq", "dnsmasq-base", "gives guests addresses and names", True),
    ("virtiofsd", "qemu-system-common", "shares directories", False),
    ("swtpm", "swtpm", "is a machine's TPM", False),
    ("passt", "passt", "is a network without privileges", False),
    ("lvm", "lvm2", "has pools in volume groups", False),
)


class Finding(NamedTuple):
    """One thing looked at; `level` is `ok`, `note` or `wrong`."""

    check: str
    level: str
    message: str
    hints: tuple[str, ...] = ()


def examine(state: StateDir) -> list[Finding]:
    """Look at everything. A check that fails is a finding, too."""
    checks: tuple[Callable[[StateDir], Iterator[Finding]], ...] = (
        _check_kvm,
        _check_programs,
        _check_qemu,
        _check_tun,
        _check_forwarding,
        _check_firewalls,
        _check_bridge_nf,
        _check_managers,
        _check_helpers,
        _check_leftovers,
    )
    return [finding for check in checks for finding in _run(check, state)]


def _run(check: Callable[[StateDir], Iterator[Finding]], state: StateDir) -> Iterator[Finding]:
    try:
        yield from check(state)
    except (QorchError, NetError, StorageError, OSError) as error:
        name = check.__name__.removeprefix("_check_")
        hint = getattr(error, "hint", None)
        yield Finding(name, WRONG, f"cannot be looked at: {error}", (hint,) if hint else ())


def _check_kvm(_state: StateDir) -> Iterator[Finding]:
    kvm = find_kvm()
    slow = "machines run under TCG, which is slower"
    if kvm.error is not None:
        yield Finding("kvm", NOTE, f"{kvm.error}: {slow}", ("modprobe kvm_intel, or kvm_amd",))
    elif not kvm.hardware:
        message = f"/dev/kvm opens, but the CPU has neither vmx nor svm: {slow}"
        yield Finding("kvm", NOTE, message)
    else:
        yield Finding("kvm", OK, "/dev/kvm opens")


def _find_program(name: str) -> str | None:
    if name == "virtiofsd":
        return next((x for x in _VIRTIOFSD if Path(x).exists()), shutil.which(name, path=_PATH))
    return shutil.which(name, path=_PATH)


def _check_programs(_state: StateDir) -> Iterator[Finding]:
    for name, package, purpose, needed in _PROGRAMS:
        if found := _find_program(name):
            yield Finding("program", OK, f"{name}: {found}")
        else:
            level = WRONG if needed else NOTE
            message = f"{name}, which {purpose}, is not installed"
            yield Finding("program", level, message, (f"apt-get install {package}",))


def _check_qemu(_state: StateDir) -> Iterator[Finding]:
    program = _find_program("qemu-system-x86_64")
    if program is None:
        return
    words = [program, "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout
    match = re.search(r"version (\d+)\.(\d+)(\S*)", said)
    if match is None:
        yield Finding("qemu", WRONG, f"{program} --version says nothing that is a version")
        return
    version = int(match[1]), int(match[2])
    oldest = ".".join(map(str, _OLDEST_QEMU))
    if version < _OLDEST_QEMU:
        message = f"QEMU {match[1]}.{match[2]} is older than {oldest}"
        yield Finding("qemu", WRONG, message, ("install a newer one: Debian 12's will do",))
    else:
        yield Finding("qemu", OK, f"QEMU {match[1]}.{match[2]}{match[3]}")


def _check_tun(_state: StateDir) -> Iterator[Finding]:
    device = Path("/dev/net/tun")
    if device.exists():
        yield Finding("tun", OK, f"{device} is there")
    else:
        hints = (f"modprobe tun; mkdir -p /dev/net; mknod {device} c 10 200",)
        yield Finding("tun", WRONG, f"there is no {device}: no network cards", hints)


def _check_forwarding(_state: StateDir) -> Iterator[Finding]:
    for switch in Switch:
        if not switch.path.exists():
            continue
        try:
            switch.check()
        except NetError as error:
            level = WRONG if switch is Switch.IPV4 else NOTE
            yield Finding("forwarding", level, error.message, (error.hint or "",))
        else:
            word = "on" if switch.is_on else "off, and can be switched on"
            yield Finding("forwarding", OK, f"{switch.family} forwarding is {word}")


def _find_plans(state: StateDir) -> list[NetworkPlan]:
    return [definition.plan for definition in Store(state).read_networks().values()]


def _check_firewalls(state: StateDir) -> Iterator[Finding]:
    from qorch_net.firewalls import find_blockers, find_chains  # noqa: PLC0415  pyroute2: 120 ms

    plans = _find_plans(state)
    blockers = find_blockers(plans)
    for blocker in blockers:
        yield Finding("firewall", WRONG, str(blocker), blocker.cures)
    told = {blocker.chain for blocker in blockers}
    for chain in find_chains():
        if chain not in told:
            message = f"{chain}: new networks must be let through; `up` says how"
            yield Finding("firewall", NOTE, message)
    if not blockers:
        yield Finding("firewall", OK, "no other firewall stops a network that is defined")


def _check_bridge_nf(_state: StateDir) -> Iterator[Finding]:
    from qorch_net.firewalls import is_bridge_filtered  # noqa: PLC0415

    if is_bridge_filtered():
        yield Finding(
            "bridge-nf",
            NOTE,
            "bridge-nf-call-iptables is on: other firewalls see packets that only cross a bridge,"
            " and a guest does not reach a port of the host that leads back to itself",
            ("sysctl net.bridge.bridge-nf-call-iptables=0, if nobody (Docker) needs it",),
        )
    else:
        yield Finding("bridge-nf", OK, "packets that cross a bridge go by no other firewall")


def _check_managers(state: StateDir) -> Iterator[Finding]:
    from qorch_net.probe import find_host  # noqa: PLC0415

    managers = find_host().managers
    uplinks = {plan.uplink for plan in _find_plans(state) if plan.enslaved}
    for interface, manager in sorted(managers.items()):
        message = f"{interface} is managed by {manager}"
        if interface in uplinks:
            yield Finding("manager", WRONG, f"{message}, and is to move into a bridge")
        else:
            yield Finding("manager", NOTE, message)
    if not managers:
        yield Finding("manager", OK, "nobody else manages interfaces")


def _check_helpers(state: StateDir) -> Iterator[Finding]:
    """Machines that run without a TPM or share of theirs: only a restart brings it back."""
    there = set()
    for name, id_, process in find_helpers(state.owner):
        there.add((name, id_))
        process.close()
    store = Store(state)
    for name in store.find_runs():
        plan = store.read_run(name) if is_locked(state, name) else None
        for helper in make_helpers(plan) if plan else ():
            if (name, helper.id) not in there:
                message = f"{name} runs without its {helper.id}, which has ended"
                log = state.machine_data(name) / f"{helper.id}.log"
                hints = (f"qorch restart {name}", f"{log} has its last words")
                yield Finding("helper", WRONG, message, hints)


def _check_leftovers(state: StateDir) -> Iterator[Finding]:
    found = find_leftovers(state)
    for leftover in found:
        yield Finding("leftover", WRONG, f"{leftover} belongs to nothing", ("qorch gc --remove",))
    if not found:
        yield Finding("leftover", OK, "nothing is left over")
