"""`<features>`, `<clock>`, `<pm>` and what becomes of a guest that stops."""

from __future__ import annotations

import datetime as dt  # only to write a point in time that the document gives
from typing import Any

from qorch.importxml.hmat import has_hmat
from qorch.importxml.node import Node
from qorch.importxml.values import size_of
from qorch.spec import ClockSpec, FeaturesSpec, PanicAction, RebootAction, TickPolicy
from qorch.units import Value

_IRQCHIPS = {"qemu": "split", "kvm": "on"}
_SOURCES = {"guest": "vm", "boot": "vm", "wall": "host", "realtime": "rt"}
_NOT_X86 = (
    *("gic", "hpt", "resize", "htm", "nested-hv", "ccf-assist", "cfpc", "sbbc", "ibs", "ras"),
    *("aia", "privnet", "xen", "capabilities"),
)


def read_features(domain: Node) -> FeaturesSpec:
    """What the board has."""
    node, clock, pm = domain.find("features"), domain.find("clock"), domain.find("pm")
    node.skip_all("pae", "hap", "viridian")  # say nothing to QEMU
    node.leave_all(*_NOT_X86, why="is no feature of QEMU's x86 machines")
    node.leave_all("msrs", why="is a setting of the host's kvm module")
    smm, kvm = node.find("smm"), node.find("kvm")
    ring = kvm.find("dirty-ring")
    hpet = [t.on("present") for t in clock.all("timer") if t.get("name") == "hpet"]
    chip = node.find("ioapic").get("driver")
    return FeaturesSpec(
        acpi=bool(node.find("acpi")),
        hpet=False if False in hpet else None,
        smm=smm.switch(),
        tseg=size_of(smm.find("tseg"), unit="MiB"),
        vmport=node.find("vmport").switch(),
        i8042=False if node.find("ps2").switch() is False else None,
        s3=pm.find("suspend-to-mem").on("enabled"),
        s4=pm.find("suspend-to-disk").on("enabled"),
        vmcoreinfo=bool(node.find("vmcoreinfo").switch()),
        kernel_irqchip=_IRQCHIPS.get(chip) if chip else None,
        dirty_ring_size=ring.number("size") if ring.switch() else None,
        tb_size=size_of(node.find("tcg", "tb-cache"), unit="KiB"),
        options=_options(domain),
        globals=_root(domain),
        dump_guest_core=domain.find("memory").on("dumpCore"),
        hmat=True if has_hmat(domain) else None,
        mem_merge=False if domain.find("memoryBacking", "nosharepages") else None,
    )


def _root(domain: Node) -> dict[str, Value]:
    """What a PCI root keeps of the address space above 4 GiB, and whether it has hotplug."""
    found: dict[str, Value] = {}
    for node in domain.find("devices").all("controller"):
        host = {"pci-root": "i440FX-pcihost", "pcie-root": "q35-pcihost"}.get(node.word("model"))
        if host is None or node.get("type") != "pci":
            continue
        if (size := size_of(node.find("pcihole64"), unit="KiB")) is not None:
            found[f"{host}.pci-hole64-size"] = f"{size >> 10}K"
        hotplug = node.find("target").on("hotplug")
        if hotplug is not None and node.get("model") == "pci-root":
            found["PIIX4_PM.acpi-root-pci-hotplug"] = hotplug
    return found


def _options(domain: Node) -> dict[str, Value]:
    """Further properties of -machine."""
    serial = domain.find("os", "bios").on("useserial")
    return {"graphics": False} if serial else {}


def read_args(domain: Node) -> list[str]:
    """What only a word of QEMU's own can say."""
    words = []
    teardown = domain.find("features", "async-teardown")
    if teardown and teardown.on("enabled") is not False:
        words += ["-run-with", "async-teardown=on"]
    return words


def read_clock(domain: Node) -> ClockSpec:
    """The real-time clock, and what timers do about lost ticks."""
    clock = domain.find("clock")
    values: dict[str, Any] = {"base": "utc"}
    offset = clock.get("offset") or "utc"
    adjustment = clock.get("adjustment")
    match offset:
        case "localtime":
            values["base"] = "localtime"
        case "timezone":
            values["base"] = "localtime"
            clock.note(f"the zone is QEMU's environment: TZ={clock.get('timezone')}", "@timezone")
        case "variable":
            values["base"] = clock.get("basis") or "utc"
            values["offset"] = clock.number("adjustment") or None
        case "absolute":
            values["base"] = _point(clock, clock.number("start"))
        case "utc":
            pass
        case _:
            clock.note(f"offset {offset!r} is not known; the clock is UTC", "@offset")
    if offset != "variable" and adjustment not in (None, "0", "reset"):
        clock.note("only offset='variable' has an adjustment", "@adjustment")
    for timer in clock.all("timer"):
        values |= _timer(timer)
    return ClockSpec(**values)


def _point(clock: Node, seconds: int | None) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds or 0, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        clock.note("is no point in time", "@start")
        return "utc"


def _timer(timer: Node) -> dict[str, Any]:
    name, policy, present = timer.get("name"), timer.get("tickpolicy"), timer.get("present")
    match name:
        case "rtc":
            found: dict[str, Any] = {"catchup": True} if policy == "catchup" else {}
            track = timer.get("track")
            if track in _SOURCES:
                found["source"] = _SOURCES[track]
            timer.leave_all("catchup", why="QEMU has no such limits")
            return found
        case "pit":
            timer.leave_all("catchup", why="QEMU has no such limits")
            if present == "no":
                timer.note("the PIT stays", "@present")
            elif policy in (None, "delay"):
                return {"pit_policy": TickPolicy.DELAY}
            elif policy == "discard":
                return {"pit_policy": TickPolicy.DISCARD}
        case "hpet" | "kvmclock" | "hypervclock" | "tsc":
            pass
        case _:
            timer.leave(f"there is no timer {name!r} on a PC")
    return {}


def read_events(domain: Node) -> dict[str, Any]:
    """What a reboot or a panic does; a guest that powers off is always let go."""
    off, reboot, crash, lock = (
        domain.find(tag) for tag in ("on_poweroff", "on_reboot", "on_crash", "on_lockfailure")
    )
    if off.text() not in ("", "destroy"):
        off.note(f"{off.text()!r}: a guest that powers off stays off")
    lock.leave("qorch's disks are locked by QEMU")
    values: dict[str, Any] = {}
    match reboot.text():
        case "" | "restart":
            pass
        case "destroy":
            values["on_reboot"] = RebootAction.SHUTDOWN
        case other:
            reboot.note(f"{other!r} has no counterpart: the guest reboots")
    match crash.text():
        case "" | "destroy":
            pass
        case "preserve":
            values["on_panic"] = PanicAction.PAUSE
        case other:
            crash.note(f"{other!r} has no counterpart: a guest that panics is ended")
    return values
