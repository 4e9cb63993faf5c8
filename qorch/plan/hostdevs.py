"""Devices of the host that a guest gets, and devices that come over a connection."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.facts import Facts, HostPci, HostUsb
from qorch.place import Place
from qorch.plan.place import Placement
from qorch.spec import HostdevSpec, HostdevType, MachineSpec, SmartcardSpec, UsbRedirSpec

_SHOWN = 8  # devices in a hint


@attrs.frozen(kw_only=True)
class HostdevPlan:
    """A device of the host; `node` is the device file of a SCSI one."""

    id: str
    spec: HostdevSpec
    node: Path | None = None
    place: Place = Place()

    @property
    def key(self) -> str | None:
        """What no two guests can have; None if it may be shared."""
        spec = self.spec
        if spec.shareable or spec.host is None:
            return None
        return f"{spec.type.value} {spec.host}"


@attrs.frozen(kw_only=True)
class UsbRedirPlan:
    """A USB device that comes over a chardev, which has its id."""

    id: str
    spec: UsbRedirSpec
    place: Place = Place()


@attrs.frozen(kw_only=True)
class SmartcardPlan:
    """A smartcard; its chardev has its id."""

    id: str
    spec: SmartcardSpec
    place: Place = Place()


def plan_hostdevs(
    path: str,
    spec: MachineSpec,
    facts: Facts,
    placement: Placement,
    taken: Mapping[str, str],
    problems: list[Problem],
) -> Iterator[HostdevPlan]:
    """The host's devices; what the host lacks or another guest has is added to `problems`."""
    seen = dict(taken)
    for index, dev in enumerate(spec.hostdevs):
        where, id_ = f"{path}.hostdev[{index}]", f"hostdev{index}"
        node = None
        if dev.type is HostdevType.PCI and dev.host is not None:
            _check_pci(where, dev, facts.host_pci, problems)
        elif dev.type is HostdevType.USB:
            _check_usb(where, dev, facts.host_usb, problems)
        elif dev.type is HostdevType.MDEV and dev.host not in facts.mdevs:
            message = f"this host has no mediated device {dev.host}"
            hint = "mdevctl start, or write its UUID to …/mdev_supported_types/TYPE/create"
            problems.append(Problem(f"{where}.host", message, hint, on_host=True))
        elif dev.type is HostdevType.SCSI and dev.url is None:
            node = _find_node(where, dev, facts, problems)
        plan = HostdevPlan(id=id_, spec=dev, node=node, place=placement.get(id_))
        if plan.key is not None and plan.key in seen:
            problems.append(
                Problem(
                    f"{where}.host",
                    f"{dev.host} belongs to {seen[plan.key]}",
                    "a device is one guest's; take it from there first",
                )
            )
        elif plan.key is not None:
            seen[plan.key] = where
        yield plan


def _check_pci(
    where: str, dev: HostdevSpec, known: Mapping[str, HostPci], problems: list[Problem]
) -> None:
    """It must be there, in an IOMMU group, and let go of by the host's driver."""
    address = full_address(dev.host or "")
    found = known.get(address)
    cure: str | None
    if found is None:
        message = f"this host has no PCI device {address}"
        cure = _list_known(known) if known else "this host has no PCI bus at all"
    elif found.group is None:
        message = f"{address} is in no IOMMU group: the host cannot keep it from other memory"
        cure = "turn on VT-d or AMD-Vi in the firmware; Intel also needs intel_iommu=on at boot"
    elif found.driver != "vfio-pci":
        message = f"{address} is in use by the host: driver {found.driver or 'none'}, not vfio-pci"
        cure = f"driverctl set-override {address} vfio-pci"
    elif found.busy:
        message = f"its IOMMU group {found.group} has devices of the host: {', '.join(found.busy)}"
        cure = "give all of the group to vfio-pci"
    else:
        return
    problems.append(Problem(f"{where}.host", message, cure, on_host=True))


def _list_known(addresses: Iterable[str]) -> str:
    known = sorted(addresses)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"it has {', '.join(known[:_SHOWN])}{more}"


def _check_usb(
    where: str, dev: HostdevSpec, known: Iterable[HostUsb], problems: list[Problem]
) -> None:
    """It must be there, unless the file says that it need not."""
    bus, _, device = (dev.host or "").partition(".")
    fitting = [
        usb
        for usb in known
        if (dev.host is None or (usb.bus, usb.device) == (int(bus), int(device)))
        and dev.vendor in (None, usb.vendor)
        and dev.product in (None, usb.product)
    ]
    if fitting or dev.optional:
        return
    wanted = dev.host or f"{dev.vendor or 0:04x}:{dev.product or 0:04x}"
    hint = _list_known(map(str, known)) if known else "this host has no USB device at all"
    message = f"this host has no USB device {wanted}"
    problems.append(Problem(where, message, f"{hint}; optional = true waits for it", on_host=True))


def full_address(text: str) -> str:
    """A PCI address with its domain."""
    return text if text.count(":") > 1 else f"0000:{text}"


def _find_node(where: str, dev: HostdevSpec, facts: Facts, problems: list[Problem]) -> Path | None:
    """The file of a SCSI device: given, or found by its address (HOST:CHANNEL:TARGET:LUN)."""
    host = dev.host or ""
    if not re.fullmatch(r"\d+:\d+:\d+:\d+", host):
        return Path(host)
    node = facts.scsi_generic.get(host)
    if node is None:
        message = f"this host has no SCSI device {host}"
        problems.append(Problem(f"{where}.host", message, "lsscsi -g lists them", on_host=True))
    return node or Path("/dev/sg0")


def plan_usb_redirs(spec: MachineSpec, placement: Placement) -> Iterator[UsbRedirPlan]:
    """USB devices from elsewhere."""
    for index, redir in enumerate(spec.usb_redirs):
        id_ = f"usb_redir{index}"
        yield UsbRedirPlan(id=id_, spec=redir, place=placement.get(id_))


def plan_smartcards(spec: MachineSpec, placement: Placement) -> Iterator[SmartcardPlan]:
    """Smartcards."""
    for index, card in enumerate(spec.smartcards):
        id_ = f"smartcard{index}"
        yield SmartcardPlan(id=id_, spec=card, place=placement.get(id_))


def find_taken(plans: Mapping[str, Collection[HostdevPlan]]) -> dict[str, str]:
    """The devices of the host that other machines have, by what no two can have."""
    return {
        dev.key: f"vm.{name}.hostdev[{dev.id.removeprefix('hostdev')}]"
        for name, devices in plans.items()
        for dev in devices
        if dev.key is not None
    }
