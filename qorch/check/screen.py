"""Screens, sound and input."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qorch.check.chardev import find_vhost_user_problems
from qorch.check.words import nearest
from qorch.errors import Problem
from qorch.spec import (
    InputModel,
    MachineSpec,
    SoundModel,
    SpiceSpec,
    VideoModel,
    VideoSpec,
    VncSpec,
)

_SEVERAL_HEADS = (VideoModel.QXL, VideoModel.VIRTIO)
_ONLY_FIRST = (VideoModel.CIRRUS, VideoModel.VMWARE, VideoModel.RAMFB)
_EVDEV = (InputModel.EVDEV, InputModel.VIRTIO_INPUT_HOST)
_MAX_HEADS = 16  # VIRTIO_GPU_MAX_SCANOUTS
_FIRST_VNC_PORT = 5900
_VNC_SHARES = ("allow-exclusive", "force-shared", "ignore")
_SPICE_OPTIONS = (  # qemu_spice_opts in ui/spice-core.c
    *("addr", "agent-mouse", "disable-agent-file-xfer", "disable-copy-paste", "disable-ticketing"),
    *("gl", "image-compression", "ipv4", "ipv6", "jpeg-wan-compression", "password"),
    *("password-secret", "plaintext-channel", "playback-compression", "port", "rendernode", "sasl"),
    *("seamless-migration", "streaming-video", "tls-channel", "tls-ciphers", "tls-port", "unix"),
    *("x509-cacert-file", "x509-cert-file", "x509-dh-key-file", "x509-dir", "x509-key-file"),
    *("x509-key-password", "zlib-glz-wan-compression"),
)
_SPICE_CHANNELS = (
    *("main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir"),
    "default",
)
_AUDIO_DRIVERS = (  # qapi AudiodevDriver
    *("none", "alsa", "coreaudio", "dbus", "dsound", "jack", "oss", "pa", "pipewire", "sdl"),
    *("sndio", "spice", "wav"),
)


def find_screen_problems(vm: MachineSpec) -> Iterator[Problem]:
    """What is wrong with screens, sound and input; paths start below the machine."""
    if vm.vnc is not None:
        yield from _vnc(vm.vnc)
    if vm.spice is not None:
        yield from _spice(vm.spice)
    yield from _videos(vm)
    yield from _audio(vm)
    for index, entry in enumerate(vm.inputs):
        if (entry.evdev is not None) != (entry.model in _EVDEV):
            message = "is missing" if entry.evdev is None else f"{entry.model.value} has none"
            yield Problem(f".input[{index}].evdev", message, 'evdev = "/dev/input/…" of the host')


def _videos(vm: MachineSpec) -> Iterator[Problem]:
    for index, video in enumerate(vm.videos):
        path, model = f".video[{index}]", video.model.value
        if index and video.model in _ONLY_FIRST:
            yield Problem(
                f"{path}.model",
                f"{model} can only be the first card",
                "put it first, or choose another model",
            )
        if video.heads is not None and video.heads > 1 and video.model not in _SEVERAL_HEADS:
            yield Problem(f"{path}.heads", f"{model} has one screen", 'model = "virtio"')
        if video.heads is not None and not 1 <= video.heads <= _MAX_HEADS:
            yield Problem(f"{path}.heads", f"{video.heads} is not 1 to {_MAX_HEADS}", "heads = 1")
        for key in ("xres", "yres"):
            pixels = getattr(video, key)
            if pixels is not None and not 0 < pixels < 1 << 16:
                yield Problem(f"{path}.{key}", f"{pixels} is no number of pixels", "such as 1024")
        if video.gl and video.model is not VideoModel.VIRTIO:
            yield Problem(f"{path}.gl", f"{model} has no 3D", 'model = "virtio"')
        if video.vhost_user is not None:
            yield from _vhost_user(path, video)
            yield from find_vhost_user_problems(vm, f"{path}.vhost_user", video.vhost_user)


def _vhost_user(path: str, video: VideoSpec) -> Iterator[Problem]:
    if video.model is not VideoModel.VIRTIO:
        message = f"{video.model.value} is QEMU's own"
        yield Problem(f"{path}.vhost_user", message, 'model = "virtio"')
    if video.gl:
        message = "is the vhost-user process's to say"
        yield Problem(f"{path}.gl", message, "vhost-user-gpu --virgl")


def _audio(vm: MachineSpec) -> Iterator[Problem]:
    for index, sound in enumerate(vm.sounds):
        for key, card in (("multi", SoundModel.USB_AUDIO), ("streams", SoundModel.VIRTIO)):
            if getattr(sound, key) is not None and sound.model is not card:
                hint = f'leave it out, or model = "{card.value}"'
                yield Problem(f".sound[{index}].{key}", f"{sound.model.value} has none", hint)
    for index, audio in enumerate(vm.audio):
        if audio.driver not in _AUDIO_DRIVERS:
            hint = nearest(audio.driver, _AUDIO_DRIVERS)
            yield Problem(f".audio[{index}].driver", f"{audio.driver!r} is no sound driver", hint)
    ids = [audio.id for audio in vm.audio]
    for index, id_ in enumerate(ids):
        if id_ in ids[:index]:
            yield Problem(
                f".audio[{index}].id",
                f"{id_!r} is audio[{ids.index(id_)}] already",
                "give it another id",
            )


def _vnc(vnc: VncSpec) -> Iterator[Problem]:
    if vnc.socket is not None and (vnc.listen is not None or vnc.port is not None):
        yield Problem(".vnc.socket", "is given with an address or port", "keep one of them")
    if vnc.port is not None and not _FIRST_VNC_PORT <= vnc.port < 1 << 16:
        yield Problem(
            ".vnc.port",
            f"{vnc.port} is not {_FIRST_VNC_PORT} to 65535",
            "5900 is the first display",
        )
    if vnc.websocket is not None and not 0 < vnc.websocket < 1 << 16:
        yield Problem(".vnc.websocket", f"{vnc.websocket} is no port", "1 to 65535")
    if vnc.share not in (None, *_VNC_SHARES):
        hint = f"one of {', '.join(_VNC_SHARES)}"
        yield Problem(".vnc.share", f"{vnc.share!r} is no way to share a screen", hint)
    yield from _listen(".vnc.listen", vnc.listen)
    if vnc.tls_verify and not vnc.tls:
        yield Problem(".vnc.tls_verify", "goes with TLS", "tls = true")


def _listen(path: str, listen: str | None) -> Iterator[Problem]:
    if listen is not None and not re.fullmatch(r"[A-Za-z0-9.:\[\]%_-]*", listen):
        hint = '"127.0.0.1" is this host alone, "0.0.0.0" all that it is reached at'
        yield Problem(path, f"{listen!r} is neither an address nor a host name", hint)


def _spice(spice: SpiceSpec) -> Iterator[Problem]:
    for key in ("port", "tls_port"):
        port = getattr(spice, key)
        if port is not None and not 0 < port < 1 << 16:
            yield Problem(f".spice.{key}", f"{port} is no port", "1 to 65535")
    yield from _listen(".spice.listen", spice.listen)
    for name in spice.options:
        if name not in _SPICE_OPTIONS:
            hint = nearest(name, _SPICE_OPTIONS)
            yield Problem(f".spice.options.{name}", "SPICE has no such option", hint)
    for key in ("tls_channels", "plaintext_channels"):
        for index, channel in enumerate(getattr(spice, key)):
            if channel not in _SPICE_CHANNELS:
                path, hint = f".spice.{key}[{index}]", nearest(channel, _SPICE_CHANNELS)
                yield Problem(path, f"SPICE has no channel {channel!r}", hint)
