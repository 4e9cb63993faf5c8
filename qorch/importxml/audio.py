"""`<audio>`: where sound goes on the host, in QEMU's options of -audiodev."""

from __future__ import annotations

from qorch.importxml.node import Node
from qorch.spec import AudioSpec
from qorch.units import Value

_DRIVERS = {"pulseaudio": "pa", "file": "wav", "coreaudio": "coreaudio"}
_OWN = {  # attributes of <audio>: QEMU's option
    "timerPeriod": "timer-period",
    "path": "path",
    "serverName": "server",
    "runtimeDir": "",
    "driver": "",
    "tryMMap": "try-mmap",
    "exclusive": "exclusive",
    "dspPolicy": "dsp-policy",
}
_SIDE = {  # attributes of <input> and <output>
    "mixingEngine": "mixing-engine",
    "fixedSettings": "fixed-settings",
    "voices": "voices",
    "bufferLength": "buffer-length",
    "bufferCount": "buffer-count",
    "tryPoll": "try-poll",
    "dev": "dev",
    "name": "name",
    "streamName": "stream-name",
    "latency": "latency",
    "serverName": "server-name",
    "clientName": "client-name",
    "connectPorts": "connect-ports",
    "exactName": "exact-name",
}
_SETTINGS = ("frequency", "channels", "format")


def read_audio(devices: Node) -> tuple[AudioSpec, ...]:
    """The audio back ends; none of them at all is one that drops all sound."""
    return tuple(_audio(node, place) for place, node in enumerate(devices.all("audio"), 1))


def _audio(node: Node, place: int) -> AudioSpec:
    kind = node.get("type") or "none"
    options: dict[str, Value] = {}
    for name, option in _OWN.items():
        if (value := node.get(name)) is not None and option:
            options[option] = _plain(value)
    for tag, prefix in (("input", "in"), ("output", "out")):
        side = node.find(tag)
        for name, option in _SIDE.items():
            if (value := side.get(name)) is not None:
                options[f"{prefix}.{option}"] = _plain(value)
        settings = side.find("settings")
        for name in _SETTINGS:
            if (value := settings.get(name)) is not None:
                options[f"{prefix}.{name}"] = _plain(value)
    return AudioSpec(
        id=f"audio{node.get('id') or place}", driver=_DRIVERS.get(kind, kind), options=options
    )


def _plain(text: str) -> Value:
    """A switch, a number or a word."""
    if text in ("yes", "on"):
        return True
    if text in ("no", "off"):
        return False
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text
