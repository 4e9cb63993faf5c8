"""VNC, SPICE and displays, graphics and sound cards, input devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qorch.argv.chardev import make_chardev
from qorch.argv.transport import find_transport
from qorch.handles import Handles
from qorch.place import Place
from qorch.plan import InputPlan, MachinePlan, SoundPlan, SpicePlan, VideoPlan, VncPlan
from qorch.spec import DisplaySpec, InputModel, SoundModel, VideoModel
from qorch.switch import Switch
from qorch.switch.base import Display
from qorch.switch.device import Transport, VirtioCommon
from qorch.switch.object import ObjectInputLinux, ObjectSecret, ObjectTlsCredsX509
from qorch.switch.screen import (
    Audiodev,
    DeviceHdaCodec,
    DeviceSound,
    DeviceUsbInput,
    DeviceVideo,
    DeviceVirtioInput,
    Keymap,
    Spice,
    Vnc,
)

_CERTIFICATES = ObjectTlsCredsX509(id="").dir
_PRIMARY = {
    VideoModel.STD: "VGA",
    VideoModel.CIRRUS: "cirrus-vga",
    VideoModel.QXL: "qxl-vga",
    VideoModel.VIRTIO: "virtio-vga",
    VideoModel.VMWARE: "vmware-svga",
    VideoModel.BOCHS: "bochs-display",
    VideoModel.RAMFB: "ramfb",
}
_SECONDARY = {
    **_PRIMARY,
    VideoModel.STD: "secondary-vga",
    VideoModel.QXL: "qxl",
    VideoModel.VIRTIO: "virtio-gpu",
}
_HDA = (SoundModel.INTEL_HDA, SoundModel.ICH9_INTEL_HDA)
_EVDEV = (InputModel.EVDEV, InputModel.VIRTIO_INPUT_HOST)


def make_screens(plan: MachinePlan, handles: Handles) -> Iterator[Switch]:
    """Back ends, servers, cards, and what one types on."""
    for audio in plan.audio:
        yield Audiodev(driver=audio.driver, id=audio.id, more=dict(audio.options))
    display = plan.display or DisplaySpec()
    yield Display(type=display.type.value, more=dict(display.options))
    if plan.vnc is not None:
        yield from _password("vnc", handles)
        yield from _vnc(plan, plan.vnc, handles.vnc_display)
    if plan.spice is not None:
        yield from _password("spice", handles)
        yield from _spice(plan.spice, handles.spice_port)
    yield from _keymap(plan)
    for video in plan.videos:
        if video.spec.vhost_user is not None:
            yield from make_chardev(video.id, video.spec.vhost_user.backend, handles)
        yield _video(plan, video)
    for sound in plan.sounds:
        yield from _sound(sound)
    for entry in plan.inputs:
        yield _input(plan, entry)


def _password(screen: str, handles: Handles) -> Iterator[Switch]:
    fd = handles.find(f"{screen}.password")
    if fd is not None:
        yield ObjectSecret(id=f"{screen}-secret", file=Path(f"/proc/self/fd/{fd}"))


def _vnc(plan: MachinePlan, vnc: VncPlan, free: int) -> Iterator[Switch]:
    spec = vnc.spec
    if spec.tls:
        verify = spec.tls_verify or None
        yield ObjectTlsCredsX509(id="vnc-tls", verify_peer=bool(verify))
    yield Vnc(
        where=_find_place(vnc, free),
        websocket=spec.websocket,
        password_secret="vnc-secret" if spec.password_file else None,
        tls_creds="vnc-tls" if spec.tls else None,
        sasl=spec.sasl or None,
        share=spec.share,
        power_control=spec.power_control,
        audiodev=plan.audio[0].id if plan.audio else None,
    )


def _find_place(vnc: VncPlan, free: int) -> str:
    """Where it listens; `none` is for viewers that are handed over by QMP."""
    if vnc.socket is not None:
        return f"unix:{vnc.socket}"
    if vnc.spec.listen == "none":
        return "none"
    host = "127.0.0.1" if vnc.spec.listen is None else vnc.spec.listen
    return f"{_bracket(host)}:{free if vnc.display is None else vnc.display}"


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host and host[0] != "[" else host


def _spice(spice: SpicePlan, free: int) -> Iterator[Switch]:
    spec = spice.spec
    options = dict(spec.options)
    yield Spice(
        port=spec.port if spice.has_port else free if spice.wants_port else 0,
        tls_port=spec.tls_port,
        addr=str(spice.socket) if spice.socket else spec.listen,
        unix=True if spice.socket else None,
        x509_dir=_CERTIFICATES if spec.tls_port is not None and "x509-dir" not in options else None,
        disable_ticketing=True if spec.password_file is None else None,
        password_secret="spice-secret" if spec.password_file else None,
        gl=spec.gl or None,
        rendernode=spec.rendernode,
        more={key: value for key, value in options.items() if key != "disable-ticketing"},
        tls_channel=spec.tls_channels,
        plaintext_channel=spec.plaintext_channels,
    )


def _keymap(plan: MachinePlan) -> Iterator[Switch]:
    """QEMU has one for all servers."""
    for server in (plan.vnc, plan.spice):
        if server is not None and server.spec.keymap is not None:
            yield Keymap(layout=server.spec.keymap)
            return


def _video(plan: MachinePlan, video: VideoPlan) -> DeviceVideo:
    spec, transport = video.spec, find_transport(plan)
    bochs = spec.model is VideoModel.BOCHS
    return DeviceVideo(
        model=_find_driver(video, transport),
        id=video.id,
        place=video.place,
        ram_size=_int(spec.ram),
        vram_size=_int(spec.vram),
        vram64_size_mb=None if spec.vram64 is None else spec.vram64 >> 20,
        vgamem_mb=None if spec.vgamem is None or bochs else spec.vgamem >> 20,
        vgamem=_int(spec.vgamem) if bochs else None,
        max_outputs=spec.heads,
        blob=spec.blob,
        xres=spec.xres,
        yres=spec.yres,
        edid=spec.edid,
        chardev=video.id if spec.vhost_user else None,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
    )


def _find_driver(video: VideoPlan, transport: Transport) -> str:
    """QEMU's name of a card; those of virtio end in the bus that they are on."""
    spec = video.spec
    model = (_PRIMARY if video.primary else _SECONDARY)[spec.model]
    if spec.model is not VideoModel.VIRTIO:
        return model
    if transport is Transport.MMIO:
        return "virtio-gpu-device" if spec.vhost_user is None else "vhost-user-gpu"
    if spec.vhost_user is not None:
        return "vhost-user-vga" if video.primary else "vhost-user-gpu-pci"
    return f"{model}{'-gl' if spec.gl else ''}{'' if video.primary else '-pci'}"


def _int(value: int | None) -> int | None:
    return None if value is None else int(value)


def _sound(sound: SoundPlan) -> Iterator[Switch]:
    spec = sound.spec
    if spec.model is SoundModel.PCSPK:
        return  # the board's own: `-machine pcspk-audiodev=`
    hda = spec.model in _HDA
    yield DeviceSound(
        model="virtio-sound-pci" if spec.model is SoundModel.VIRTIO else spec.model.value,
        id=sound.id,
        place=sound.place,
        audiodev=None if hda else sound.audio,
        multi=spec.multi,
        streams=spec.streams,
    )
    codecs = ("hda-duplex",) if spec.codecs is None else spec.codecs
    for number, codec in enumerate(codecs if hda else ()):
        yield DeviceHdaCodec(
            model=codec if codec.startswith("hda-") else f"hda-{codec}",
            id=f"{sound.id}-codec{number}",
            place=_on(sound.id),
            cad=number,
            audiodev=sound.audio,
        )


def _on(id_: str) -> Place:
    return Place(bus=f"{id_}.0")


def _input(plan: MachinePlan, entry: InputPlan) -> Switch:
    spec, transport = entry.spec, find_transport(plan)
    more: dict[str, object] = dict(spec.options)
    if spec.model is InputModel.EVDEV and spec.evdev is not None:
        return ObjectInputLinux(id=entry.id, evdev=spec.evdev, more=more)
    if spec.model.value.startswith("usb-"):
        return DeviceUsbInput(model=spec.model.value, id=entry.id, place=entry.place, more=more)
    return DeviceVirtioInput(
        model=spec.model.value,
        transport=transport,
        id=entry.id,
        place=entry.place,
        virtio=VirtioCommon.from_spec(spec.virtio, transport),
        evdev=spec.evdev if spec.model in _EVDEV else None,
        more=more,
    )
