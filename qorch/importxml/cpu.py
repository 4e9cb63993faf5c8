"""`<vcpu>`, `<cpu>`, `<cputune>`, `<iothreads>` and the features that are CPU flags."""

from __future__ import annotations

import re

import attrs

from qorch.importxml.node import Node
from qorch.importxml.values import cpus_of
from qorch.spec import CpuSpec, IothreadSpec
from qorch.units import CpuSet, Pin, Value

_RENAMED = {"pclmuldq": "pclmulqdq"}  # libvirt's names of flags that are not QEMU's
_GONE = frozenset({"pconfig", "osxsave", "ospke", "cmt", "mbm-total", "mbm-local"})  # from QEMU
_ON = {"force": True, "require": True, "optional": True, "disable": False, "forbid": False}
_AMD = re.compile(r"EPYC|Opteron|Dhyana|athlon|phenom|qemu|kvm")
_AMDS_ALONE = frozenset(
    {"3dnow", "3dnowext", "cr8legacy", "extapic", "fma4", "fxsr-opt", "ibs", "lwp", "misalignsse"}
    | {"mmxext", "nodeid-msr", "osvw", "perfctr-core", "perfctr-nb", "skinit", "sse4a", "svm"}
    | {"tbm", "topoext", "wdt", "xop"}
)
_REMOVED = {  # flags that a model of QEMU's has and libvirt's has no longer
    r"(Skylake|Cascadelake|Icelake)-.*|Denverton|Snowridge": "mpx",
    r"Icelake-.*": "intel-pt",
}
_MODES = {"custom", "host-passthrough", "host-model", "maximum"}
_HYPERV = {  # libvirt's name: QEMU's, without hv-
    "relaxed": "relaxed",
    "vapic": "vapic",
    "vpindex": "vpindex",
    "runtime": "runtime",
    "synic": "synic",
    "stimer": "stimer",
    "reset": "reset",
    "frequencies": "frequencies",
    "reenlightenment": "reenlightenment",
    "tlbflush": "tlbflush",
    "ipi": "ipi",
    "evmcs": "evmcs",
    "avic": "avic",
    "emsr_bitmap": "emsr-bitmap",
    "xmm_input": "xmm-input",
}


def flag_name(name: str) -> str:
    """A CPU flag by QEMU's name of it."""
    return _RENAMED.get(name, name).replace("_", "-")


@attrs.define
class _Flags:
    """CPU flags in the order they are found, and the other properties of -cpu."""

    flags: dict[str, bool] = attrs.field(factory=dict)
    properties: dict[str, Value] = attrs.field(factory=dict)

    def set(self, name: str, value: bool | None) -> None:
        if value is not None:
            self.flags[flag_name(name)] = value

    def words(self) -> tuple[str, ...]:
        return tuple(f"{'+' if on else '-'}{name}" for name, on in self.flags.items())


def read_cpu(domain: Node) -> CpuSpec:
    """vCPUs: how many, of what model, with what flags, and where they run."""
    flags = _Flags()
    cpu = domain.find("cpu")
    model = _model(cpu, flags, kvm=domain.get("type") != "qemu")
    if not model:
        model = "qemu32" if domain.find("os", "type").get("arch") == "i686" else "qemu64"
    _own_flags(cpu, model, flags)
    _clock_flags(domain.find("clock"), flags)
    _feature_flags(domain.find("features"), flags)
    _panic_flags(domain.find("devices"), flags)
    _cache(cpu, flags)
    _physical_address(cpu.find("maxphysaddr"), flags)
    topology = cpu.find("topology")
    spec = CpuSpec(
        model=model,
        flags=flags.words(),
        properties=flags.properties,
        sockets=topology.number("sockets"),
        dies=topology.number("dies"),
        clusters=topology.number("clusters"),
        cores=topology.number("cores"),
        threads=topology.number("threads"),
    )
    return _placement(domain, _count(domain, spec))


def _model(cpu: Node, flags: _Flags, *, kvm: bool) -> str:
    """The model, empty for QEMU's own default, which is libvirt's, too."""
    cpu.get("check")  # what libvirt looks for before it starts a guest
    if cpu.get("match") == "minimum":
        cpu.note("is a minimum: libvirt adds what each host has more", "@match")
    cpu.skip_all("vendor", "numa")
    mode = cpu.get("mode") or ("custom" if cpu.find("model") else "")
    named = cpu.find("model")
    named.get("fallback")
    if cpu.get("migratable") == "off":
        flags.properties["migratable"] = False
    match mode:
        case "host-passthrough":
            return "host"
        case "maximum":
            return "max"
        case "host-model":
            model = "host" if kvm else "max"
            cpu.note(
                f"host-model is a CPU that libvirt composes on each host; {model} is taken, which"
                " has all that there is"
            )
            named.skip()
            return model
    if named.get("vendor_id"):
        flags.properties["vendor"] = named.word("vendor_id")
    if mode and mode not in _MODES:
        cpu.note(f"there is no mode {mode!r}", "@mode")
    return named.text()


def _own_flags(cpu: Node, model: str, flags: _Flags) -> None:
    """The flags that are asked for; an optional one where the model's maker has it."""
    for feature in cpu.all("feature"):
        if not feature.get("name"):
            feature.leave("has no name")
            continue
        name, policy = flag_name(feature.word("name")), feature.word("policy") or "require"
        foreign = name in _AMDS_ALONE and not _AMD.match(model) and model not in ("host", "max")
        value = _ON.get(policy) and not (policy == "optional" and foreign)
        if name not in _GONE and policy in _ON:
            flags.set(name, value)
        elif value:
            feature.note(f"QEMU has no flag {name!r}")
    for pattern, name in _REMOVED.items():
        if re.fullmatch(pattern, model) and name not in flags.flags:
            flags.set(name, False)


def _clock_flags(clock: Node, flags: _Flags) -> None:
    for timer in clock.all("timer"):
        match timer.get("name"):
            case "kvmclock":
                flags.set("kvmclock", timer.on("present"))
            case "hypervclock":
                if timer.on("present"):
                    flags.properties["hv-time"] = True
            case "tsc":
                if (frequency := timer.number("frequency")) is not None:
                    flags.properties["tsc-frequency"] = frequency


def _panic_flags(devices: Node, flags: _Flags) -> None:
    if any(panic.get("model") == "hyperv" for panic in devices.all("panic")):
        flags.properties["hv-crash"] = True


def _feature_flags(features: Node, flags: _Flags) -> None:
    flags.set("kvm-pv-eoi", features.find("apic").on("eoi"))
    flags.set("kvm-pv-unhalt", features.find("pvspinlock").switch())
    _hyperv(features.find("hyperv"), flags)
    kvm = features.find("kvm")
    if kvm.find("hidden").switch():
        flags.properties["kvm"] = False
    for name, flag in (
        ("hint-dedicated", "kvm-hint-dedicated"),
        ("poll-control", "kvm-poll-control"),
    ):
        if kvm.find(name).switch():
            flags.set(flag, True)
    if kvm.find("pv-ipi").switch() is False:
        flags.set("kvm-pv-ipi", False)
    flags.set("pmu", features.find("pmu").switch())


def _hyperv(hyperv: Node, flags: _Flags) -> None:
    mode = hyperv.get("mode")
    if mode == "passthrough":
        flags.properties["hv-passthrough"] = True
    elif mode == "host-model":
        hyperv.note("what the host offers is not looked up: the listed features only", "@mode")
    for name, flag in _HYPERV.items():
        node = hyperv.find(name)
        if node.switch():
            flags.properties[f"hv-{flag}"] = True
            for extra in ("direct", "extended"):
                if node.find(extra).switch():
                    flags.properties[f"hv-{flag}-{'ext' if extra == 'extended' else extra}"] = True
    spinlocks = hyperv.find("spinlocks")
    if spinlocks.switch():
        retries = spinlocks.number("retries")
        flags.properties["hv-spinlocks"] = f"0x{0xFFFFFFFF if retries is None else retries:x}"
    vendor = hyperv.find("vendor_id")
    if vendor.switch():
        flags.properties["hv-vendor-id"] = vendor.word("value")


def _cache(cpu: Node, flags: _Flags) -> None:
    cache = cpu.find("cache")
    mode = cache.get("mode")
    if mode is None:
        return
    cache.get("level")  # 3 is the only one there is
    whole = cpu.get("mode") in ("host-passthrough", "maximum")
    if mode == "emulate":
        flags.properties["l3-cache"] = True
    if mode == "passthrough":
        flags.properties["host-cache-info"] = True
    elif whole:
        flags.properties["host-cache-info"] = False
    if mode in ("passthrough", "disable"):
        flags.properties["l3-cache"] = False


def _physical_address(node: Node, flags: _Flags) -> None:
    if not node:
        return
    bits, limit = node.number("bits"), node.number("limit")
    if node.get("mode") == "passthrough":
        flags.properties["host-phys-bits"] = True
        if limit:
            flags.properties["host-phys-bits-limit"] = limit
    elif bits is None:
        flags.properties["host-phys-bits"] = False
    else:
        flags.properties["phys-bits"] = bits


def _count(domain: Node, spec: CpuSpec) -> CpuSpec:
    """How many vCPUs there are, may be, and can be unplugged."""
    vcpu = domain.find("vcpu")
    count = most = vcpu.text_number() or 1
    if (current := vcpu.number("current")) is not None:
        count = current
    plugged: list[int] = []
    each = domain.find("vcpus").all("vcpu")
    for node in each:
        number, enabled = node.number("id"), node.on("enabled")
        node.get("order")
        if node.on("hotpluggable") and enabled and number is not None:
            plugged.append(number)
    if each:
        count = max(count - len(plugged), 1)
    if spec.sockets is None and most > 1:
        spec = attrs.evolve(spec, sockets=most)  # libvirt's vCPUs are sockets, QEMU's are cores
    return attrs.evolve(
        spec, count=count, max=most if most != count else None, plugged=tuple(plugged)
    )


def _placement(domain: Node, spec: CpuSpec) -> CpuSpec:
    """Pins; what else `<cputune>` has is the host's scheduling, which qorch leaves alone."""
    vcpu, tune = domain.find("vcpu"), domain.find("cputune")
    if vcpu.get("placement") == "auto":
        vcpu.note("qorch does not choose NUMA nodes by load", "@placement")
    everyone = cpus_of(vcpu, vcpu.get("cpuset"))
    pins: dict[int, CpuSet] = {}
    for node in tune.all("vcpupin"):
        number, cpus = node.number("vcpu"), cpus_of(node, node.get("cpuset"))
        if number is not None and cpus is not None:
            pins[number] = cpus
    emulator = tune.find("emulatorpin")
    chosen = [pins.get(number, everyone) for number in (*range(spec.count), *spec.plugged)]
    return attrs.evolve(
        spec,
        pin=tuple(Pin(cpus or ()) for cpus in chosen) if any(chosen) else (),
        emulator_pin=cpus_of(emulator, emulator.get("cpuset")) or everyone,
    )


def read_iothreads(domain: Node) -> tuple[IothreadSpec, ...]:
    """Threads for disks; libvirt numbers those that it is not told the numbers of."""
    count = domain.find("iothreads").text_number() or 0
    nodes = {node.number("id") or 0: node for node in domain.find("iothreadids").all("iothread")}
    numbers = list(nodes)
    fresh = iter(number for number in range(1, 1 << 16) if number not in nodes)
    while len(numbers) < min(count, 1 << 10):
        numbers.append(next(fresh))
    pins = {
        node.number("iothread"): cpus_of(node, node.get("cpuset"))
        for node in domain.find("cputune").all("iothreadpin")
    }
    return tuple(_iothread(number, nodes.get(number), pins.get(number)) for number in numbers)


def _iothread(number: int, node: Node | None, pin: CpuSet | None) -> IothreadSpec:
    spec = IothreadSpec(id=f"iothread{number}", pin=pin)
    if node is None:
        return spec
    poll = node.find("poll")
    return attrs.evolve(
        spec,
        thread_pool_min=node.number("thread_pool_min"),
        thread_pool_max=node.number("thread_pool_max"),
        poll_max_ns=poll.number("max"),
        poll_grow=poll.number("grow"),
        poll_shrink=poll.number("shrink"),
    )


def read_main_loop(domain: Node) -> list[str]:
    """The threads that QEMU's main loop has for what blocks; a word of QEMU's own says it."""
    node = domain.find("defaultiothread")
    sizes = [
        f"thread-pool-{end}={number}"
        for end in ("min", "max")
        if (number := node.number(f"thread_pool_{end}")) is not None
    ]
    return ["-object", ",".join(["main-loop", "id=main-loop", *sizes])] if sizes else []


def read_tune(domain: Node) -> None:
    """Name what of the host's own scheduling and limits is not carried over."""
    why = "limits and scheduling on the host are not qorch's: use cgroups and systemd"
    tune = domain.find("cputune")
    for node in tune.nodes:
        if node.tag not in ("vcpupin", "emulatorpin", "iothreadpin"):
            node.seen = True
            node.leave(why)
    domain.leave_all("blkiotune", "memtune", "resource", "perf", "idmap", why=why)
