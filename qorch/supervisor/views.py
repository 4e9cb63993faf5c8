"""How machines are shown: the rows of `ls` and the details of `show`. Keys are a contract."""

from __future__ import annotations

from qorch.machine import Machine, State
from qorch.paths import StateDir
from qorch.plan import MachinePlan
from qorch.spec import Accel


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
                "path": str(disk.path),
                "format": disk.chain[0].format.value,
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
                "tap": nic.tap.name,
                "mac": nic.mac,
                "bridge": nic.tap.bridge,
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
        "console": str(run / "console.sock"),
        "log": str(paths.machine_data(plan.name) / "console.log"),
        "qmp": str(run / "monitor.sock"),
    }
