"""Screens, sound and input: servers, graphics cards, sound cards, keyboards and mice."""

from __future__ import annotations

from pathlib import Path

import attrs

from qorch.option import NOT_A_PROPERTY, option_word, properties
from qorch.switch.device import DeviceModel, DeviceVirtio, VirtioCommon


@attrs.frozen(kw_only=True)
class Vnc:
    """`-vnc`: `where` is `HOST:DISPLAY` or `unix:PATH`."""

    where: str = attrs.field(metadata=NOT_A_PROPERTY)
    websocket: int | None = None
    password_secret: str | None = None
    tls_creds: str | None = None
    sasl: bool | None = None
    share: str | None = None
    power_control: bool | None = None
    audiodev: str | None = None

    def args(self) -> tuple[str, ...]:
        return "-vnc", option_word(self.where, properties(self))


@attrs.frozen(kw_only=True)
class Spice:
    """`-spice`; with `unix`, `addr` is the path of a socket. A list is a word that is repeated."""

    port: int | None = None
    tls_port: int | None = None
    addr: str | None = None
    unix: bool | None = None
    x509_dir: Path | None = None
    disable_ticketing: bool | None = None
    password_secret: str | None = None
    gl: bool | None = None
    rendernode: Path | None = None
    more: dict[str, object] = attrs.field(factory=dict)
    tls_channel: tuple[str, ...] = attrs.field(default=(), metadata=NOT_A_PROPERTY)
    plaintext_channel: tuple[str, ...] = attrs.field(default=(), metadata=NOT_A_PROPERTY)

    def args(self) -> tuple[str, ...]:
        channels = [
            *({"tls-channel": name} for name in self.tls_channel),
            *({"plaintext-channel": name} for name in self.plaintext_channel),
        ]
        return "-spice", option_word(properties(self), *channels)


@attrs.frozen(kw_only=True)
class Keymap:
    """`-k`: the layout that servers translate keys by."""

    layout: str

    def args(self) -> tuple[str, ...]:
        return "-k", self.layout


@attrs.frozen(kw_only=True)
class Audiodev:
    """`-audiodev`: where sound goes."""

    driver: str = attrs.field(metadata=NOT_A_PROPERTY)
    id: str
    more: dict[str, object] = attrs.field(factory=dict)

    def args(self) -> tuple[str, ...]:
        return "-audiodev", option_word(self.driver, properties(self))


@attrs.frozen(kw_only=True)
class DeviceVideo(DeviceModel):
    """`-device VGA`, `qxl-vga` and the others; sizes as each of them counts."""

    ram_size: int | None = None
    vram_size: int | None = None
    vram64_size_mb: int | None = None
    vgamem_mb: int | None = None
    vgamem: int | None = None
    max_outputs: int | None = None
    blob: bool | None = None
    xres: int | None = None
    yres: int | None = None
    edid: bool | None = None
    chardev: str | None = None
    virtio: VirtioCommon = VirtioCommon()


@attrs.frozen(kw_only=True)
class DeviceSound(DeviceModel):
    """`-device AC97` and the others; HDA controllers leave the back end to their codecs."""

    audiodev: str | None = None
    multi: bool | None = None
    streams: int | None = None


@attrs.frozen(kw_only=True)
class DeviceHdaCodec(DeviceModel):
    """`-device hda-duplex`, `hda-output` or `hda-micro`; `cad` is its number on the controller."""

    cad: int
    audiodev: str


@attrs.frozen(kw_only=True)
class DeviceUsbInput(DeviceModel):
    """`-device usb-tablet`, `usb-mouse` or `usb-kbd`."""

    more: dict[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class DeviceVirtioInput(DeviceVirtio):
    """`-device virtio-tablet-*` and the others; `evdev` is the host's device."""

    model: str = attrs.field(metadata=NOT_A_PROPERTY)
    evdev: Path | None = None
    more: dict[str, object] = attrs.field(factory=dict)

    @property
    def stem(self) -> str:
        """QEMU's name without the transport."""
        return self.model
