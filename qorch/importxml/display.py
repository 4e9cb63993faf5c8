"""`<graphics>`, `<video>`, `<sound>`, `<audio>`, `<input>`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qorch.importxml.address import Buses, address_of
from qorch.importxml.audio import read_audio
from qorch.importxml.node import Node
from qorch.importxml.values import choose, path_of, virtio_of
from qorch.spec import (
    ChardevSpec,
    DisplaySpec,
    DisplayType,
    InputModel,
    InputSpec,
    SoundModel,
    SoundSpec,
    SpiceSpec,
    VhostUserSpec,
    VideoModel,
    VideoSpec,
    VncSpec,
)
from qorch.units import Size, Value

_VIDEOS = {
    "vga": VideoModel.STD,
    "cirrus": VideoModel.CIRRUS,
    "qxl": VideoModel.QXL,
    "virtio": VideoModel.VIRTIO,
    "vmvga": VideoModel.VMWARE,
    "bochs": VideoModel.BOCHS,
    "ramfb": VideoModel.RAMFB,
}
_SOUNDS = {
    "ich6": SoundModel.INTEL_HDA,
    "ich9": SoundModel.ICH9_INTEL_HDA,
    "ac97": SoundModel.AC97,
    "es1370": SoundModel.ES1370,
    "sb16": SoundModel.SB16,
    "usb": SoundModel.USB_AUDIO,
    "pcspk": SoundModel.PCSPK,
    "virtio": SoundModel.VIRTIO,
}
_CODECS = {"duplex": "hda-duplex", "micro": "hda-micro", "output": "hda-output"}
_USB_INPUTS = {
    "tablet": InputModel.USB_TABLET,
    "mouse": InputModel.USB_MOUSE,
    "keyboard": InputModel.USB_KBD,
}
_VIRTIO_INPUTS = {
    "tablet": InputModel.VIRTIO_TABLET,
    "mouse": InputModel.VIRTIO_MOUSE,
    "keyboard": InputModel.VIRTIO_KEYBOARD,
    "passthrough": InputModel.VIRTIO_INPUT_HOST,
}
_CHANNELS = ("main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir")
_QXL_RAM = 64 << 20
_VGAMEM = 16 << 20


def read_display(devices: Node) -> dict[str, Any]:
    """The screens' ways out: VNC, SPICE, and one window or none."""
    found: dict[str, Any] = {}
    readers = {
        "vnc": ("vnc", _vnc),
        "spice": ("spice", _spice),
        "egl-headless": ("display", _egl),
        "sdl": ("display", _sdl),
        "dbus": ("display", _dbus),
    }
    for node in devices.all("graphics"):
        kind = node.get("type") or ""
        key, read = readers.get(kind, ("", None))
        if read is None or key in found:
            node.leave("there is one of its kind" if read else f"{kind!r} has no counterpart")
            continue
        found[key] = read(node)
    return found


def _listen(node: Node) -> tuple[str | None, str | None]:
    """The address and the socket it listens at, `none` for nowhere."""
    address, socket = node.get("listen"), node.get("socket")
    first = node.find("listen")
    for other in node.all("listen")[1:]:
        other.leave("there is one address to listen at")
    match first.get("type"):
        case "none":
            return "none", None
        case "socket":
            first.get("autosocket")
            return None, first.get("socket") or socket or ""
        case "network":
            first.note("libvirt takes the network's address on the host", "@network")
            first.get("network")
    if (socket or "").startswith(("/var/lib/libvirt/qemu/domain-", "/run/libvirt/qemu/domain-")):
        socket = None  # one that libvirt made up
    return first.get("address") or address, socket


def _vnc(node: Node) -> VncSpec:
    listen, socket = _listen(node)
    port = node.number("port")
    auto = node.on("autoport") or port in (None, -1)
    websocket = node.number("websocket")
    node.skip_all("wait")
    for name in ("passwdValidTo", "connected"):
        if node.get(name):
            node.note("passwords do not expire by themselves", f"@{name}")
    if socket is None and listen is None:
        listen = "127.0.0.1"
    return VncSpec(
        listen=listen,
        port=None if auto or listen in (None, "none") else port,
        socket=path_of(socket),
        websocket=websocket if websocket and websocket > 0 else None,
        password_file=_password(node, "vnc"),
        keymap=node.get("keymap"),
        share=node.get("sharePolicy"),
        power_control=node.on("powerControl"),
    )


def _password(node: Node, kind: str) -> Any:
    if node.get("passwd") is None:
        return None
    node.note(f"write the password to {kind}.passwd; it is not copied", "@passwd")
    return path_of(f"{kind}.passwd")


def _spice(node: Node) -> SpiceSpec:
    listen, socket = _listen(node)
    port, tls = node.number("port"), node.number("tlsPort")
    for said in ("autoport", "passwdValidTo", "connected"):
        node.get(said)
    gl = node.find("gl")
    default = {"secure": "tls", "insecure": "plaintext"}.get(node.get("defaultMode") or "")
    channels: dict[str, list[str]] = {"tls": [], "plaintext": []}
    if default:
        channels[default].append("default")
    for channel in sorted(node.all("channel"), key=_channel_number):
        mode = {"secure": "tls", "insecure": "plaintext"}.get(channel.get("mode") or "")
        which = channel.get("name")
        if mode and which:
            channels[mode].append(which)
    nowhere = socket is not None or listen == "none"
    return SpiceSpec(
        listen=None if nowhere else listen or "127.0.0.1",
        port=port if port and port > 0 and not nowhere else None,
        tls_port=tls if tls and tls > 0 and not nowhere else None,
        socket=path_of(socket),
        password_file=_password(node, "spice"),
        keymap=node.get("keymap"),
        gl=bool(gl.on("enable")),
        rendernode=path_of(gl.get("rendernode")),
        options=_spice_options(node),
        tls_channels=tuple(channels["tls"]),
        plaintext_channels=tuple(channels["plaintext"]),
    )


def _channel_number(node: Node) -> int:
    """Where SPICE's own list of channels has it, as libvirt says them."""
    name = node.get("name")
    return _CHANNELS.index(name) if name in _CHANNELS else len(_CHANNELS)


def _spice_options(node: Node) -> dict[str, Value]:
    """QEMU's options of -spice; libvirt turns on seamless migration always."""
    options: dict[str, Value] = {}
    for tag, key, option in (
        ("image", "compression", "image-compression"),
        ("jpeg", "compression", "jpeg-wan-compression"),
        ("zlib", "compression", "zlib-glz-wan-compression"),
        ("streaming", "mode", "streaming-video"),
    ):
        if (value := node.find(tag).get(key)) is not None:
            options[option] = value
    if (playback := node.find("playback").on("compression")) is not None:
        options["playback-compression"] = playback
    mouse = node.find("mouse").get("mode")
    if mouse is not None:
        options["agent-mouse"] = mouse == "client"
    if node.find("clipboard").on("copypaste") is False:
        options["disable-copy-paste"] = True
    if node.find("filetransfer").on("enable") is False:
        options["disable-agent-file-xfer"] = True
    options["seamless-migration"] = True
    return options


def _egl(node: Node) -> DisplaySpec:
    render = node.find("gl").get("rendernode")
    return DisplaySpec(
        type=DisplayType.EGL_HEADLESS, options={"rendernode": render} if render else {}
    )


def _sdl(node: Node) -> DisplaySpec:
    for name in ("display", "xauth"):
        if node.get(name):
            node.note("the window opens where QEMU's environment says", f"@{name}")
    options: dict[str, Value] = {}
    if node.on("fullscreen"):
        options["full-screen"] = True
    if (gl := node.find("gl").on("enable")) is not None:
        options["gl"] = gl
    return DisplaySpec(type=DisplayType.SDL, options=options)


def _dbus(node: Node) -> DisplaySpec:
    options: dict[str, Value] = {}
    if node.on("p2p"):
        options["p2p"] = True
    elif (address := node.get("address")) is not None:
        options["addr"] = address
    gl = node.find("gl")
    if (accelerated := gl.on("enable")) is not None:
        options["gl"] = accelerated
    if render := gl.get("rendernode"):
        options["rendernode"] = render
    node.find("audio").skip()
    return DisplaySpec(type=DisplayType.DBUS, options=options)


def read_videos(devices: Node, buses: Buses) -> tuple[VideoSpec, ...]:
    """The graphics cards, the primary one first; with graphics there is one unasked."""
    nodes = devices.all("video")
    if not nodes and devices.all("graphics"):
        return (VideoSpec(model=VideoModel.CIRRUS),)
    nodes = sorted(nodes, key=lambda node: node.find("model").get("primary") != "yes")
    return tuple(video for node in nodes if (video := _video(node, buses)))


def _video(node: Node, buses: Buses) -> VideoSpec | None:
    card = node.find("model")
    kind = card.get("type") or "cirrus"
    card.get("primary")
    if kind == "none":
        return None
    model = choose(node, kind, _VIDEOS, "model")
    if model is None:
        node.skip()
        return None
    acceleration, driver = card.find("acceleration"), node.find("driver")
    if driver.get("vgaconf") is not None:
        driver.note("VGA registers are as QEMU has them", "@vgaconf")
    acceleration.get("accel2d")
    resolution, heads = card.find("resolution"), card.number("heads")
    virtio = model is VideoModel.VIRTIO
    return VideoSpec(
        model=model,
        heads=heads if virtio or model is VideoModel.QXL else None,
        gl=bool(acceleration.on("accel3d")) and virtio and driver.get("name") != "vhostuser",
        blob=card.on("blob"),
        xres=resolution.number("x"),
        yres=resolution.number("y"),
        edid=card.on("edid"),
        vhost_user=_vhost_user(node, driver, acceleration),
        address=address_of(node, buses),
        virtio=virtio_of(node, driver, kind),
        **_memories(card, model),
    )


def _vhost_user(node: Node, driver: Node, acceleration: Node) -> VhostUserSpec | None:
    """A card that a vhost-user-gpu draws, which libvirt runs, and here somebody else."""
    name = driver.get("name")
    if name in (None, "qemu"):
        return None
    number = re.sub(r"\D", "", node.path)
    socket = Path(f"/run/vhost-user-gpu/video{number}.sock")
    render = acceleration.get("rendernode")
    words = ["vhost-user-gpu", f"--socket-path={socket}"]
    words += ["--virgl"] if acceleration.on("accel3d") else []
    words += [f"--render-node={render}"] if render else []
    driver.note(f"start it before the machine: {' '.join(words)}", "@name")
    return VhostUserSpec(backend=ChardevSpec(path=socket, server=False))


def _memories(card: Node, model: VideoModel) -> dict[str, Size]:
    """The sizes libvirt gives each card, in KiB there; those of QXL are powers of two."""
    said = {name: card.number(name) for name in ("ram", "vram", "vram64", "vgamem")}
    sizes = {name: number << 10 for name, number in said.items() if number is not None}
    match model:
        case VideoModel.QXL:
            return {
                "ram": Size(_power(sizes.get("ram") or _QXL_RAM)),
                "vram": Size(_power(sizes.get("vram") or _QXL_RAM)),
                "vram64": Size(sizes.get("vram64") or 0),
                "vgamem": Size(_power(sizes.get("vgamem") or _VGAMEM)),
            }
        case VideoModel.STD | VideoModel.VMWARE | VideoModel.BOCHS:
            return {"vgamem": Size(sizes.get("vram") or _VGAMEM)}
    return {}


def _power(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def read_sounds(devices: Node, buses: Buses) -> dict[str, Any]:
    """Sound cards, and where their sound goes."""
    sounds = []
    for node in devices.all("sound"):
        model = choose(node, node.get("model"), _SOUNDS, "model")
        if model is None:
            node.leave("has no counterpart")
            continue
        codecs = tuple(
            _CODECS.get(codec.get("type") or "duplex", "hda-duplex") for codec in node.all("codec")
        )
        audio = node.find("audio").get("id")
        sounds.append(
            SoundSpec(
                model=model,
                codecs=codecs or None,
                audio=f"audio{audio}" if audio else None,
                multi=node.on("multichannel"),
                streams=node.number("streams"),
                address=address_of(node, buses),
            )
        )
    return {"sounds": tuple(sounds), "audio": read_audio(devices)}


def read_inputs(devices: Node, buses: Buses) -> tuple[InputSpec, ...]:
    """Input devices; PS/2 ones are on the board."""
    found = []
    for node in devices.all("input"):
        kind, bus = node.get("type") or "", node.get("bus") or _default_bus(node)
        source = node.find("source")
        if kind == "evdev":
            found.append(_evdev(source))
            continue
        if bus == "ps2":
            node.skip()
            continue
        model = {"usb": _USB_INPUTS, "virtio": _VIRTIO_INPUTS}.get(bus, {}).get(kind)
        if model is None:
            node.leave(f"{kind!r} on {bus!r} has no counterpart")
            continue
        found.append(
            InputSpec(
                model=model,
                evdev=path_of(source.get("evdev")),
                address=address_of(node, buses),
                virtio=virtio_of(node, node.find("driver"), node.word("model")),
            )
        )
    return tuple(found)


def _default_bus(node: Node) -> str:
    return (
        "virtio"
        if node.get("type") == "passthrough"
        else ("usb" if node.get("type") == "tablet" else "ps2")
    )


def _evdev(source: Node) -> InputSpec:
    options: dict[str, Value] = {}
    if source.get("grab") == "all":
        options["grab_all"] = True
    if (repeat := source.on("repeat")) is not None:
        options["repeat"] = repeat
    if toggle := source.get("grabToggle"):
        options["grab-toggle"] = toggle
    return InputSpec(model=InputModel.EVDEV, evdev=path_of(source.get("dev")), options=options)
