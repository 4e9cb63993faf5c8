"""All other devices: shares, RNG, watchdog, panic, TPM, vsock, IOMMU, shmem, crypto, …."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs

from qorch.importxml.address import Buses, address_of
from qorch.importxml.boot import BootOrder
from qorch.importxml.node import Node
from qorch.importxml.ports import backend_of
from qorch.importxml.values import choose, path_of, size_of, uuid_of, virtio_of
from qorch.spec import (
    AddressSpec,
    ChardevSpec,
    CryptoSpec,
    GenidSpec,
    IommuModel,
    IommuSpec,
    PanicModel,
    PanicSpec,
    PstoreSpec,
    RngBackend,
    RngSpec,
    SecurityModel,
    ShareSpec,
    ShareType,
    ShmemSpec,
    SmartcardMode,
    SmartcardSpec,
    TpmModel,
    TpmSpec,
    TpmVersion,
    UsbRedirSpec,
    VsockSpec,
    WatchdogAction,
    WatchdogModel,
    WatchdogSpec,
)
from qorch.units import Duration

_ACTIONS = {
    **{action.value: action for action in WatchdogAction},
    "dump": WatchdogAction.PAUSE,
}
_WATCHDOGS = {model.value: model for model in WatchdogModel}
_SECURITY = {
    "passthrough": SecurityModel.PASSTHROUGH,
    "mapped": SecurityModel.MAPPED,
    "squash": SecurityModel.NONE,
}
_IOMMUS = {"intel": IommuModel.INTEL, "amd": IommuModel.AMD, "virtio": IommuModel.VIRTIO}
_TPMS = {model.value: model for model in TpmModel}
_VERSIONS = {version.value: version for version in TpmVersion}


def read_others(devices: Node, buses: Buses, order: BootOrder) -> dict[str, Any]:
    """The parts of a MachineSpec that these devices are."""
    shares = (_share(node, buses, order) for node in devices.all("filesystem"))
    wanted = _filter(devices)
    redirs = (_redir(node, buses, order, wanted) for node in devices.all("redirdev"))
    smartcards = (_smartcard(node, buses) for node in devices.all("smartcard"))
    watchdogs = (_watchdog(node, buses) for node in devices.all("watchdog"))
    panics = (_panic(node, buses) for node in devices.all("panic"))
    rngs = (_rng(node, buses) for node in devices.all("rng"))
    devices.leave_all("nvram", "lease", why="has no counterpart")
    return {
        "shares": _there(shares),
        "rngs": _there(rngs),
        "watchdogs": _there(watchdogs),
        "panics": _there(panics),
        "usb_redirs": _there(redirs),
        "smartcards": _there(smartcards),
        "shmems": tuple(_shmem(node, buses) for node in devices.all("shmem")),
        "cryptos": tuple(_crypto(node, buses) for node in devices.all("crypto")),
        "pstore": _pstore(devices.find("pstore"), buses),
        "vsock": _vsock(devices.find("vsock"), buses),
        "tpm": _tpm(devices),
        "iommu": _iommu(devices.find("iommu"), buses),
    }


def _there(found: Any) -> tuple[Any, ...]:
    return tuple(item for item in found if item is not None)


def _share(node: Node, buses: Buses, order: BootOrder) -> ShareSpec | None:
    driver, source, binary = node.find("driver"), node.find("source"), node.find("binary")
    kind = node.get("type") or "mount"
    name = driver.get("type") or "path"
    if kind != "mount" or name not in ("path", "handle", "virtiofs"):
        node.leave(f"{kind!r} file systems by {name!r} are for containers")
        return None
    node.leave_all("space_hard_limit", "space_soft_limit", "idmap", why="is for containers")
    values: dict[str, Any] = {
        "path": path_of(source.get("dir")),
        "tag": node.find("target").word("dir"),
        "read_only": bool(node.find("readonly")),
        "bootindex": order.take(node, None),
        "address": address_of(node, buses),
        "virtio": virtio_of(node, driver, node.word("model")),
    }
    access = node.get("accessmode")
    if name == "virtiofs":
        return ShareSpec(
            type=ShareType.VIRTIOFS,
            queue_size=driver.number("queue"),
            socket=path_of(source.get("socket")),
            **_virtiofsd(binary),
            **values,
        )
    return ShareSpec(
        type=ShareType.P9,
        security_model=choose(node, access or "passthrough", _SECURITY, "access mode"),
        fmode=_mode(node, "fmode"),
        dmode=_mode(node, "dmode"),
        multidevs=node.get("multidevs"),
        writeout=driver.get("wrpolicy") == "immediate",
        **values,
    )


def _mode(node: Node, name: str) -> str | None:
    """Octal, with or without a leading zero."""
    text = node.get(name)
    return text and text.zfill(4)


def _virtiofsd(binary: Node) -> dict[str, Any]:
    binary.leave_all("lock", "sandbox", "thread_pool", "openfiles", why="is virtiofsd's default")
    return {
        "binary": path_of(binary.get("path")),
        "xattr": bool(binary.on("xattr")),
        "cache": binary.find("cache").get("mode"),
    }


def _rng(node: Node, buses: Buses) -> RngSpec | None:
    backend, rate = node.find("backend"), node.find("rate")
    model, kind = node.word("model"), backend.get("model")
    period = rate.number("period") if rate else None
    spec = RngSpec(
        max_bytes=rate.number("bytes"),
        period=Duration((period or 1000) / 1000) if rate else None,
        address=address_of(node, buses),
        virtio=virtio_of(node, node.find("driver"), model),
    )
    match kind:
        case "random":
            return attrs.evolve(spec, source=Path(backend.text() or "/dev/random"))
        case "builtin":
            return attrs.evolve(spec, backend=RngBackend.BUILTIN)
        case "egd":
            return attrs.evolve(spec, backend=RngBackend.EGD, egd=backend_of(backend))
    node.leave(f"there is no source of randomness {kind!r}")
    return None


def _watchdog(node: Node, buses: Buses) -> WatchdogSpec | None:
    model = choose(node, node.get("model") or "i6300esb", _WATCHDOGS, "model")
    if model is None:
        node.skip()
        return None
    return WatchdogSpec(
        model=model,
        action=choose(node, node.get("action"), _ACTIONS, "action") or WatchdogAction.RESET,
        address=address_of(node, buses),
    )


def _panic(node: Node, buses: Buses) -> PanicSpec | None:
    model = node.get("model") or "isa"
    match model:
        case "isa":
            return PanicSpec(address=address_of(node, buses))
        case "pvpanic":
            return PanicSpec(model=PanicModel.PCI, address=address_of(node, buses))
        case "hyperv":
            return None  # a CPU flag, hv-crash
    node.leave(f"there is no panic device {model!r} on a PC")
    return None


def _pstore(node: Node, buses: Buses) -> PstoreSpec | None:
    if not node:
        return None
    path, size = node.text_of("path"), size_of(node.find("size"))
    if node.get("backend") != "acpi-erst" or path is None or size is None:
        node.leave("names no file, or is not ACPI's")
        return None
    return PstoreSpec(path=Path(path), size=size, address=address_of(node, buses))


def _vsock(node: Node, buses: Buses) -> VsockSpec | None:
    if not node:
        return None
    cid = node.find("cid")
    auto = cid.on("auto")
    number = cid.number("address")
    return VsockSpec(
        cid=None if auto else number,
        address=address_of(node, buses),
        virtio=virtio_of(node, node.find("driver"), node.word("model")),
    )


def _tpm(devices: Node) -> TpmSpec | None:
    for other in devices.all("tpm")[1:]:
        other.leave("a machine has one TPM")
    node = devices.find("tpm")
    if not node:
        return None
    backend = node.find("backend")
    kind = backend.get("type")
    device = path_of(backend.find("device").get("path"))
    source = backend.find("source")
    external = kind == "external" and source.get("type") == "unix" and source.word("path")
    if kind not in ("emulator", "passthrough") and not external:
        node.leave(f"a TPM behind {kind!r} has no counterpart")
        return None
    backend.get("persistent_state")  # qorch's always is
    source.get("mode")
    source.leave_all("reconnect", why="QEMU gives up a TPM that is gone")
    backend.leave_all("active_pcr_banks", "encryption", "profile")
    if backend.get("debug"):
        backend.note("swtpm logs as it does", "@debug")
    version = choose(backend, backend.get("version"), _VERSIONS, "version")
    return TpmSpec(
        version=version or TpmVersion.V2_0,
        model=choose(node, node.get("model") or "tpm-tis", _TPMS, "model"),
        device=device if kind == "passthrough" else None,
        socket=path_of(external or None),
    )


def _iommu(node: Node, buses: Buses) -> IommuSpec | None:
    if not node:
        return None
    model = choose(node, node.get("model"), _IOMMUS, "model")
    if model is None:
        node.skip()
        return None
    driver = node.find("driver")
    return IommuSpec(
        model=model,
        intremap=driver.on("intremap"),
        caching_mode=driver.on("caching_mode"),
        eim=driver.on("eim"),
        device_iotlb=driver.on("iotlb"),
        aw_bits=driver.number("aw_bits"),
        xtsup=driver.on("xtsup"),
        passthrough=driver.on("passthrough"),
        dma_translation=driver.on("dma_translation"),
        address=address_of(node, buses),
    )


def _shmem(node: Node, buses: Buses) -> ShmemSpec:
    model = node.find("model").get("type") or ""
    server, msi = node.find("server"), node.find("msi")
    name = node.word("name")
    doorbell = "doorbell" in model or bool(server)
    role = node.get("role")
    backend = None
    if doorbell:
        backend = ChardevSpec(
            path=Path(server.get("path") or f"/var/lib/libvirt/shmem-{name}-sock"), server=False
        )
    return ShmemSpec(
        name=name,
        size=size_of(node.find("size"), unit="bytes"),
        server=backend,
        vectors=msi.number("vectors"),
        ioeventfd=msi.on("ioeventfd"),
        master=None if role is None else role == "master",
        address=address_of(node, buses),
    )


def _crypto(node: Node, buses: Buses) -> CryptoSpec:
    backend = node.find("backend")
    node.get("type")
    return CryptoSpec(
        backend=backend.get("model") or "builtin",
        queues=backend.number("queues"),
        address=address_of(node, buses),
        virtio=virtio_of(node, node.find("driver"), node.word("model")),
    )


def _redir(node: Node, buses: Buses, order: BootOrder, wanted: str | None) -> UsbRedirSpec | None:
    node.get("bus")
    backend = backend_of(node)
    if backend is None:
        return None
    if backend.name == "vdagent":
        backend = attrs.evolve(backend, name="usbredir")
    return UsbRedirSpec(
        backend=backend,
        bootindex=order.take(node, None),
        filter=wanted,
        address=address_of(node, buses),
    )


def _filter(devices: Node) -> str | None:
    """Which USB devices may come: `CLASS:VENDOR:PRODUCT:VERSION:ALLOW`, -1 for any."""
    rules = []
    for device in devices.find("redirfilter").all("usbdev"):
        numbers = (device.number("class"), device.number("vendor"), device.number("product"))
        version = re.fullmatch(r"(\d\d?)\.(\d)(\d?)", device.word("version"))
        words = [
            "-1" if number is None or number < 0 else f"0x{number:0{width}X}"
            for number, width in zip(numbers, (2, 4, 4), strict=True)
        ]
        words.append(f"0x{version[1]:0>2}{version[2]}{version[3] or 0}" if version else "-1")
        rules.append(":".join([*words, "1" if device.on("allow") else "0"]))
    return "|".join(rules) or None


def _smartcard(node: Node, buses: Buses) -> SmartcardSpec | None:
    mode = node.get("mode")
    address: AddressSpec | None = address_of(node, buses)
    match mode:
        case "host":
            return SmartcardSpec(mode=SmartcardMode.EMULATED, address=address)
        case "host-certificates":
            return SmartcardSpec(
                mode=SmartcardMode.EMULATED,
                certificates=tuple(child.text() for child in node.all("certificate")),
                database=Path(node.text_of("database") or "/etc/pki/nssdb"),
                address=address,
            )
        case "passthrough":
            backend = backend_of(node)
            if backend is None:
                return None
            if backend.name == "vdagent":
                backend = attrs.evolve(backend, name="smartcard")
            return SmartcardSpec(backend=backend, address=address)
    node.leave(f"there is no mode {mode!r}")
    return None


def read_genid(domain: Node) -> GenidSpec | None:
    """The VM generation id."""
    node = domain.find("genid")
    return GenidSpec(guid=uuid_of(node, node.text())) if node else None
