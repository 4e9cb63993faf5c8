"""What a vm.toml says about screens, sound and input."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path

import attrs

from qorch.spec.common import AddressSpec, VhostUserSpec, VirtioSpec
from qorch.units import Size, Value


@attrs.frozen(kw_only=True)
class VncSpec:
    """`[vm.NAME.vnc]`: on TCP at `listen`, or on a Unix socket.

    Without a port, the first free display from 5900 is taken at start; without `listen` and
    `socket` it is a socket of qorch's own.
    """

    listen: str | None = None
    port: int | None = None
    socket: Path | None = None
    websocket: int | None = None
    password_file: Path | None = None
    keymap: str | None = None
    share: str | None = None
    power_control: bool | None = None
    sasl: bool = False
    tls: bool = False
    tls_verify: bool = False


@attrs.frozen(kw_only=True)
class SpiceSpec:
    """`[vm.NAME.spice]`; `options` are QEMU's own (`streaming-video = "filter"`)."""

    listen: str | None = None
    port: int | None = None
    tls_port: int | None = None
    socket: Path | None = None
    password_file: Path | None = None
    keymap: str | None = None
    gl: bool = False
    rendernode: Path | None = None
    options: Mapping[str, Value] = attrs.field(factory=dict)
    tls_channels: tuple[str, ...] = ()
    plaintext_channels: tuple[str, ...] = ()


class DisplayType(enum.Enum):
    """Where else the screen is shown (`-display`)."""

    NONE = "none"
    EGL_HEADLESS = "egl-headless"
    SDL = "sdl"
    GTK = "gtk"
    DBUS = "dbus"


@attrs.frozen(kw_only=True)
class DisplaySpec:
    """`[vm.NAME.display]`, or `display = TYPE` for short."""

    type: DisplayType = DisplayType.NONE
    options: Mapping[str, Value] = attrs.field(factory=dict)


class VideoModel(enum.Enum):
    """QEMU's graphics cards, as `-vga` calls them."""

    STD = "std"
    CIRRUS = "cirrus"
    QXL = "qxl"
    VIRTIO = "virtio"
    VMWARE = "vmware"
    BOCHS = "bochs"
    RAMFB = "ramfb"


@attrs.frozen(kw_only=True)
class VideoSpec:
    """`[[vm.NAME.video]]`: the first is what the firmware shows itself on.

    `ram`, `vram`, `vram64` and `vgamem` are sizes of its memories, `heads` how many screens it has.
    `vhost_user` is the socket of a vhost-user-gpu, which draws in QEMU's place.
    """

    model: VideoModel = VideoModel.STD
    ram: Size | None = None
    vram: Size | None = None
    vram64: Size | None = None
    vgamem: Size | None = None
    heads: int | None = None
    gl: bool = False
    blob: bool | None = None
    xres: int | None = None
    yres: int | None = None
    edid: bool | None = None
    vhost_user: VhostUserSpec | None = None
    address: AddressSpec | None = None
    virtio: VirtioSpec = VirtioSpec()


@attrs.frozen(kw_only=True)
class AudioSpec:
    """`[[vm.NAME.audio]]`: where sound goes on the host (`-audiodev`); options are QEMU's own."""

    id: str
    driver: str = "none"
    options: Mapping[str, Value] = attrs.field(factory=dict)


class SoundModel(enum.Enum):
    """QEMU's sound cards."""

    INTEL_HDA = "intel-hda"
    ICH9_INTEL_HDA = "ich9-intel-hda"
    AC97 = "AC97"
    ES1370 = "ES1370"
    SB16 = "sb16"
    USB_AUDIO = "usb-audio"
    PCSPK = "pcspk"
    VIRTIO = "virtio-sound"


@attrs.frozen(kw_only=True)
class SoundSpec:
    """`[[vm.NAME.sound]]`: a sound card; the HDA cards have `codecs`, by default one hda-duplex.

    `multi` is usb-audio's, `streams` virtio-sound's.
    """

    model: SoundModel = SoundModel.ICH9_INTEL_HDA
    codecs: tuple[str, ...] | None = None
    audio: str | None = None
    multi: bool | None = None
    streams: int | None = None
    address: AddressSpec | None = None


class InputModel(enum.Enum):
    """Keyboards, mice and tablets; PC machines have PS/2 ones without being asked."""

    USB_TABLET = "usb-tablet"
    USB_MOUSE = "usb-mouse"
    USB_KBD = "usb-kbd"
    VIRTIO_TABLET = "virtio-tablet"
    VIRTIO_MOUSE = "virtio-mouse"
    VIRTIO_KEYBOARD = "virtio-keyboard"
    VIRTIO_INPUT_HOST = "virtio-input-host"
    EVDEV = "input-linux"


@attrs.frozen(kw_only=True)
class InputSpec:
    """`[[vm.NAME.input]]`; `evdev` is the host's device of the last two models."""

    model: InputModel
    evdev: Path | None = None
    options: Mapping[str, Value] = attrs.field(factory=dict)
    address: AddressSpec | None = None
    virtio: VirtioSpec = VirtioSpec()
