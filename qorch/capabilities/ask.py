"""Ask a QEMU binary what it has, once; what it said is kept beside the state. Blocking.

A QEMU without a machine (`-machine none`) is asked over QMP on its standard input: all commands go
in at once and the answers come out in their order, some 100 ms later. What is kept is known by the
binary's path, size and time, so that an upgrade is asked anew. Properties of devices are asked for
when a plan first uses the device; those of a machine type when a plan names one by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from qorch.capabilities.values import MACHINE_SUFFIX, Emulator, MachineInfo
from qorch.errors import MachineError

_FORMAT = 1  # of the file; another one is not read
_DEADLINE = 60.0  # seconds
_ATTEMPTS = 5
_SWITCHES = ("-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S")
_CPU_SUFFIX = "-x86_64-cpu"


def find_emulator(binary: Path, directory: Path, drivers: Collection[str] = ()) -> Emulator:
    """What a binary has, and the properties of `drivers`; `directory` keeps what it said.

    Raises MachineError if it cannot be asked.
    """
    path = directory / f"{_identify(binary)}.json"
    kept = _read(path)
    emulator = _structure(kept) if kept else None
    known = emulator.properties if emulator else {}
    missing = [driver for driver in dict.fromkeys(drivers) if driver not in known]
    if emulator is not None and not missing:
        return emulator
    data = kept or _ask_base(binary)
    if missing:
        data["properties"] |= _ask_properties(binary, missing)
    _write(path, data)
    return _structure(data)


def _identify(binary: Path) -> str:
    """A name for this very file: an upgrade changes its size or time."""
    try:
        real = binary.resolve(strict=True)
        stat = real.stat()
    except OSError as error:
        raise MachineError(
            f"{binary}: {error.strerror}", "apt-get install qemu-system-x86"
        ) from error
    words = f"{real}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _ask_base(binary: Path) -> dict[str, Any]:
    version, machines, cpus, types = _ask(
        binary,
        [
            {"execute": "query-version"},
            {"execute": "query-machines"},
            {"execute": "query-cpu-definitions"},
            {"execute": "qom-list-types", "arguments": {"abstract": False}},
        ],
    )
    return {
        "format": _FORMAT,
        "version": ".".join(str(version["qemu"][key]) for key in ("major", "minor", "micro")),
        "machines": {
            machine["name"]: {
                "alias": machine.get("alias"),
                "max_cpus": machine["cpu-max"],
                "hotpluggable_cpus": machine["hotpluggable-cpus"],
            }
            for machine in machines
        },
        "cpu_models": sorted(cpu["name"] for cpu in cpus),
        "types": sorted(item["name"] for item in types),
        "properties": {},
    }


def _ask_properties(binary: Path, types: Sequence[str]) -> dict[str, list[str] | None]:
    """What is no device, or only a kind of devices, is asked as the type that it is."""
    machines = [name for name in types if name.endswith(MACHINE_SUFFIX)]
    devices = [name for name in types if name not in machines]
    found = _list_properties(binary, "device-list-properties", devices)
    others = [name for name, properties in found.items() if properties is None]
    found |= _list_properties(binary, "qom-list-properties", others)
    for machine in machines:
        found[machine] = None
        with suppress(MachineError):  # QEMU 7.2 ends over `microvm-machine`
            found |= _list_properties(binary, "qom-list-properties", [machine])
    return found


def _list_properties(
    binary: Path, command: str, types: Sequence[str]
) -> dict[str, list[str] | None]:
    if not types:
        return {}
    answers = _ask(
        binary, [{"execute": command, "arguments": {"typename": name}} for name in types]
    )
    return {
        name: None if answer is None else sorted(item["name"] for item in answer)
        for name, answer in zip(types, answers, strict=True)
    }


def _ask(binary: Path, commands: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The answers to commands; None for one that is refused.

    A QEMU that quits does not write out what the pipe had no room for yet: it is asked again.
    """
    requests = [{"execute": "qmp_capabilities"}, *commands, {"execute": "quit"}]
    text = "".join(json.dumps(request) + "\n" for request in requests)
    words = [str(binary), *_SWITCHES, "-qmp", "stdio"]
    for _ in range(_ATTEMPTS):
        try:
            done = subprocess.run(
                words, input=text, capture_output=True, text=True, timeout=_DEADLINE, check=False
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise MachineError(f"{binary} does not say what it has: {error}") from error
        answers = _find_answers(done.stdout)
        if len(answers) == len(requests):
            return answers[1:-1]
        if done.returncode:
            break
    raise MachineError(f"{binary} does not say what it has", done.stderr.strip() or None)


def _find_answers(text: str) -> list[Any]:
    """What was returned, up to a line that is cut off."""
    lines = list[dict[str, Any]]()
    with suppress(ValueError):
        lines.extend(map(json.loads, text.splitlines()))
    return [line.get("return") for line in lines if {"return", "error"} & set(line)]


def _structure(data: Mapping[str, Any]) -> Emulator:
    return Emulator(
        version=data["version"],
        machines={name: MachineInfo(**info) for name, info in data["machines"].items()},
        cpu_models=frozenset(data["cpu_models"]),
        types=frozenset(data["types"]),
        properties={
            name: None if names is None else frozenset(names)
            for name, names in data["properties"].items()
        },
    )


def _read(path: Path) -> dict[str, Any] | None:
    """What was kept; a file that is damaged or of another format is as none."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        _structure(data)
        return data if data["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, data: Mapping[str, Any]) -> None:
    """Whole or not at all; where it cannot be kept, it is asked again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(data))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def is_cpu(driver: str) -> bool:
    """Whether a type is a CPU model's: its properties are the model's features."""
    return driver.endswith(_CPU_SUFFIX)
