"""`<launchSecurity>`: a guest whose memory the host cannot read."""

from __future__ import annotations

from pathlib import Path

from qorch.importxml.node import Node
from qorch.spec import ConfidentialSpec, ConfidentialType
from qorch.units import Value

_TYPES = {
    "sev": ConfidentialType.SEV,
    "sev-snp": ConfidentialType.SEV_SNP,
    "tdx": ConfidentialType.TDX,
}
_NUMBERS = (
    ("cbitpos", "cbitpos"),
    ("reducedPhysBits", "reduced-phys-bits"),
    ("policy", "policy"),
)
_SWITCHES = (
    ("kernelHashes", "kernel-hashes"),
    ("authorKey", "author-key-enabled"),
)
_TEXTS = (
    ("guestVisibleWorkarounds", "guest-visible-workarounds"),
    ("idBlock", "id-block"),
    ("idAuth", "id-auth"),
    ("hostData", "host-data"),
    ("mrConfigId", "mrconfigid"),
    ("mrOwner", "mrowner"),
    ("mrOwnerConfig", "mrownerconfig"),
)
_FILES = {"dhCert": "dh_cert.base64", "session": "session.base64"}


def read_confidential(domain: Node) -> ConfidentialSpec | None:
    """What a guest of SEV or TDX is made with; libvirt asks the host for the bits not told."""
    node = domain.find("launchSecurity")
    kind = node.get("type") or ""
    if node and kind not in _TYPES:
        node.leave(f"{kind!r} is not for x86")
    if kind not in _TYPES:
        return None
    if node.find("quoteGenerationService"):
        node.find("quoteGenerationService").leave("give it as a property, quote-generation-socket")
    if kind != "tdx" and not (node.find("cbitpos") and node.find("reducedPhysBits")):
        node.note("libvirt asks the host for cbitpos and reduced-phys-bits: say them")
    return ConfidentialSpec(
        type=_TYPES[kind],
        dh_cert_file=_file(node.find("dhCert")),
        session_file=_file(node.find("session")),
        properties=_properties(node),
    )


def _properties(node: Node) -> dict[str, Value]:
    found: dict[str, Value] = {}
    tdx = node.get("type") == "tdx"
    for tag, name in _NUMBERS:
        if (number := node.find(tag).text_number()) is not None:
            found["attributes" if tdx and tag == "policy" else name] = number
    for tag, name in _SWITCHES:
        if (value := node.on(tag)) is not None:
            found[name] = value
    if (vcek := node.on("vcek")) is not None:
        found["vcek-disabled"] = not vcek
    for tag, name in _TEXTS:
        if text := node.text_of(tag):
            found[name] = text
    return found


def _file(node: Node) -> Path | None:
    """Text that QEMU takes in a file only."""
    if not node:
        return None
    name = _FILES[node.tag]
    node.note(f"write this to {name}: {node.text()}")
    return Path(name)
