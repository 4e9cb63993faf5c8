"""Plan and handles to QEMU's command line: pure, and the only way one is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.argv.blockdev import make_groups
from qorch.argv.controllers import make_controllers
from qorch.argv.disks import make_disk, make_seed
from qorch.argv.firmware import make_firmware
from qorch.argv.hostdevs import make_hostdevs
from qorch.argv.machine import (
    make_base,
    make_cpu_devices,
    make_iothreads,
    make_monitors,
    make_own_words,
)
from qorch.argv.memory import make_memory_device
from qorch.argv.nics import make_nic
from qorch.argv.ports import make_console, make_ports
from qorch.argv.screens import make_screens
from qorch.argv.services import make_iommu, make_services
from qorch.argv.shares import make_share
from qorch.argv.tables import make_tables
from qorch.argv.tpm import make_tpm
from qorch.handles import Handles
from qorch.plan import MachinePlan
from qorch.switch import Switch

__all__ = ["make_argv", "make_cpu_devices", "make_switches"]


def make_argv(plan: MachinePlan, handles: Handles, qemu: Path) -> tuple[str, ...]:
    """The words that start this machine, paused (`-S`)."""
    words = [str(qemu)]
    for switch in make_switches(plan, handles):
        words += switch.args()
    return tuple(words)


def make_switches(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """The switches in the order QEMU needs: back ends before front ends, buses before devices."""
    yield from make_base(plan, handles)
    yield from make_firmware(plan)
    yield from make_tables(plan, handles)
    yield from make_iothreads(plan)
    yield from make_monitors(handles)
    if plan.iommu is not None:
        yield from make_iommu(plan.iommu)
    yield from make_controllers(plan)
    yield from make_console(plan, handles)
    yield from make_ports(plan, handles)
    yield from make_groups(plan.disks)
    for disk in plan.disks:
        yield from make_disk(plan, disk, handles)
    yield from make_seed(plan, handles)
    for nic in plan.nics:
        yield from make_nic(plan, nic, handles)
    yield from make_tpm(plan, handles)
    yield from make_screens(plan, handles)
    yield from make_hostdevs(plan, handles)
    for share in plan.shares:
        yield from make_share(plan, share, handles)
    yield from make_services(plan, handles)
    for device in plan.memory.devices:
        yield from make_memory_device(plan, device)
    yield from make_own_words(plan)
