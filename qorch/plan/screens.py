"""Screens, sound and input: what people see, hear and type on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from qorch.errors import Problem
from qorch.paths import StateDir
from qorch.place import Place
from qorch.plan.place import Placement
from qorch.spec import (
    AudioSpec,
    InputSpec,
    MachineSpec,
    SoundSpec,
    SpiceSpec,
    VideoSpec,
    VncSpec,
)

_MAX_SOCKET_PATH = 107  # bytes: sun_path less its NUL (unix(7))
_FIRST_PORT = 5900


@attrs.frozen(kw_only=True)
class VncPlan:
    """A VNC server: on a Unix socket, or on TCP at a display; without one, the first free."""

    spec: VncSpec
    socket: Path | None = None
    display: int | None = None


@attrs.frozen(kw_only=True)
class SpicePlan:
    """A SPICE server: on a Unix socket, or on TCP, at a port that is free if none is given."""

    spec: SpiceSpec
    socket: Path | None = None

    @property
    def has_port(self) -> bool:
        """Whether it is said where viewers come in."""
        given = (self.socket, self.spec.port, self.spec.tls_port)
        return any(value is not None for value in given)

    @property
    def wants_port(self) -> bool:
        """Whether a free port is to be found for it at start."""
        return self.spec.listen is not None and not self.has_port


@attrs.frozen(kw_only=True)
class VideoPlan:
    """A graphics card; the first is the one that firmware shows itself on."""

    id: str
    spec: VideoSpec
    primary: bool
    place: Place = Place()


@attrs.frozen(kw_only=True)
class SoundPlan:
    """A sound card; `audio` is the id of its back end."""

    id: str
    spec: SoundSpec
    audio: str
    place: Place = Place()


@attrs.frozen(kw_only=True)
class InputPlan:
    """A keyboard, mouse or tablet."""

    id: str
    spec: InputSpec
    place: Place = Place()


def plan_vnc(
    path: str, name: str, spec: MachineSpec, state: StateDir, problems: list[Problem]
) -> VncPlan | None:
    """The VNC server: on a socket of ours unless the file says otherwise."""
    vnc = spec.vnc
    if vnc is None:
        return None
    if vnc.listen is None and vnc.port is None:
        socket = vnc.socket or state.machine_run(name) / "vnc.sock"
        _check_socket(f"{path}.vnc", socket, problems)
        return VncPlan(spec=vnc, socket=socket)
    return VncPlan(spec=vnc, display=None if vnc.port is None else vnc.port - _FIRST_PORT)


def plan_spice(
    path: str, name: str, spec: MachineSpec, state: StateDir, problems: list[Problem]
) -> SpicePlan | None:
    """The SPICE server, the same."""
    spice = spec.spice
    if spice is None:
        return None
    if (spice.listen, spice.port, spice.tls_port) == (None, None, None) and not spice.gl:
        socket = spice.socket or state.machine_run(name) / "spice.sock"
        _check_socket(f"{path}.spice", socket, problems)
        return SpicePlan(spec=spice, socket=socket)
    return SpicePlan(spec=spice, socket=spice.socket)


def _check_socket(path: str, socket: Path, problems: list[Problem]) -> None:
    if len(str(socket).encode()) > _MAX_SOCKET_PATH:
        message = f"{socket} is longer than the path of a socket can be"
        problems.append(Problem(path, message, "give a shorter one: socket = …"))


def plan_videos(spec: MachineSpec, placement: Placement) -> Iterator[VideoPlan]:
    """The graphics cards."""
    for index, video in enumerate(spec.videos):
        id_ = f"video{index}"
        place = placement.get(id_)
        yield VideoPlan(id=id_, spec=video, primary=index == 0, place=place)


def plan_audio(spec: MachineSpec) -> tuple[AudioSpec, ...]:
    """The back ends of sound cards; one that is silent, or SPICE's, where there are none."""
    if spec.audio or not spec.sounds:
        return spec.audio
    return (AudioSpec(id="audio0", driver="none" if spec.spice is None else "spice"),)


def plan_sounds(
    path: str, spec: MachineSpec, placement: Placement, problems: list[Problem]
) -> Iterator[SoundPlan]:
    """The sound cards, each on a back end that is there."""
    known = [audio.id for audio in plan_audio(spec)]
    for index, sound in enumerate(spec.sounds):
        if sound.audio is not None and sound.audio not in known:
            message = f"there is no audio {sound.audio!r}"
            hint = f"known: {', '.join(known)}; define it in [[audio]]"
            problems.append(Problem(f"{path}.sound[{index}].audio", message, hint))
        yield SoundPlan(
            id=f"sound{index}",
            spec=sound,
            audio=sound.audio or known[0],
            place=placement.get(f"sound{index}"),
        )


def plan_inputs(spec: MachineSpec, placement: Placement) -> Iterator[InputPlan]:
    """Keyboards, mice and tablets."""
    for index, entry in enumerate(spec.inputs):
        yield InputPlan(id=f"input{index}", spec=entry, place=placement.get(f"input{index}"))
