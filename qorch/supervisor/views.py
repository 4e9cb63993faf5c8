"""How machines are shown: the rows of `ls` and the details of `show`. Keys are a contract."""

from __future__ import annotations

from pathlib import Path

from qorch.handles import is_own_socket
from qorch.helper import make_helpers
from qorch.machine import Machine, State
from qorch.paths import StateDir
from qorch.plan import MachinePlan
from qorch.spec import Accel, ChardevSpec, ChardevType


def make_row(plan: MachinePlan, machine: Machine | None, state: State) -> dict[str, object]:
    """One row of `qorch ls --json`; memory in bytes, uptime in seconds."""
    return {
        "name": plan.name,
        "state": state.value,
        "pid": machine.process.pid if machine else None,
        "uuid": str(plan.uuid),
        "cpus": plan.cpus,
        "memory": int(plan.memory.size),
        "accel": "kvm" if plan.accel is Accel.KVM else "tcg",
        "ips": [str(ip) for ip in plan.ips],
        "uptime": round(machine.process.uptime, 3) if machine else None,
    }


def make_details(
    plan: MachinePlan, machine: Machine | None, state: State, paths: StateDir
) -> dict[str, object]:
    """`qorch show NAME --json`."""
    run = paths.machine_run(plan.name)
    return {
        **make_row(plan, machine, state),
        "machine": plan.machine,
        "disks": [
            {
                "id": disk.id,
                "path": str(disk.path) if disk.chain else None,
                "format": disk.chain[0].format.value if disk.chain else None,
                "backing": [str(image.path) for image in disk.chain[1:]],
                "read_only": disk.read_only,
                "serial": disk.serial,
            }
            for disk in plan.disks
        ],
        "nics": [
            {
                "id": nic.id,
                "network": nic.network,
                "tap": nic.tap.name if nic.tap else None,
                "mac": nic.mac,
                "bridge": nic.tap.bridge if nic.tap else None,
                "ips": [str(nic.ip)] if nic.ip is not None else [],
            }
            for nic in plan.nics
        ],
        "vcpus": [
            {
                "index": vcpu.index,
                "thread_id": vcpu.thread_id,
                "affinity": machine.process.find_affinity(vcpu.thread_id),
            }
            for vcpu in machine.vcpus
        ]
        if machine
        else [],
        "channels": [
            {
                "id": channel.id,
                "name": channel.spec.name,
                "socket": _find_socket(run, channel.id, channel.spec.backend),
            }
            for channel in plan.channels
        ],
        "console": str(run / "console.sock") if plan.console.is_there else None,
        "log": str(paths.machine_data(plan.name) / "console.log")
        if plan.console.is_there
        else None,
        "vnc": _find_vnc(plan, machine),
        "spice": _find_spice(plan, machine),
        "helpers": [_describe_helper(machine, item.id) for item in make_helpers(plan)]
        if machine
        else [],
        "qmp": str(run / "monitor.sock"),
    }


def _describe_helper(machine: Machine, id_: str) -> dict[str, object]:
    """One that has ended has no pid: its machine runs without it."""
    lost = id_ in machine.lost_helpers
    return {
        "id": id_,
        "pid": None if lost else machine.helpers[id_].pid,
        "state": "ended" if lost else "running",
    }


def _find_vnc(plan: MachinePlan, machine: Machine | None) -> str | None:
    """The VNC server's Unix socket, or HOST:PORT; a port that is chosen at start is known then."""
    if plan.vnc is None or plan.vnc.socket is not None:
        return str(plan.vnc.socket) if plan.vnc else None
    host, port = plan.vnc.spec.listen or "127.0.0.1", plan.vnc.spec.port
    port = port or (machine.vnc_port if machine else None)
    return f"{host}:{port}" if port else None


def _find_spice(plan: MachinePlan, machine: Machine | None) -> str | None:
    """The same of SPICE."""
    if plan.spice is None or plan.spice.socket is not None:
        return str(plan.spice.socket) if plan.spice else None
    spec = plan.spice.spec
    port = spec.port or spec.tls_port or (machine.spice_port if machine else None)
    return f"{spec.listen or 'localhost'}:{port}" if port else None


def _find_socket(run: Path, id_: str, chardev: ChardevSpec) -> str | None:
    """The Unix socket that a port is connected to, ours or another one."""
    if is_own_socket(chardev):
        return str(run / f"{id_}.sock")
    return str(chardev.path) if chardev.type is ChardevType.SOCKET else None
