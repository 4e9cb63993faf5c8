"""Not a test: supervisors one after the other, each of which dies at a step of work on disks.

embedded_lives.py DIRECTORY MACHINE

Each life is a fork of one process that has been a supervisor already, and so has imported, and made
the code for, what takes most of a supervisor's start. It says `{"alive": true}` when it
has ended what the one before it began, and then does what each line of its input asks for, with a
line of answer. When it has died, the next line of input lets the next one live.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import trio

import qorch
from qorch.progress import Progress
from qorch.supervisor import Supervisor

_VERIFIED = re.compile(rb"GUEST-VERIFY \w+ n=(\d+) bad=(\d+)\r?\n")


def tell(**answer: Any) -> None:
    """A line for the test."""
    print(json.dumps(answer), flush=True)  # noqa: T201


@attrs.define
class Deadly:
    """A report that kills at the first step that was not `seen`.

    A step is known by what came before it, and is the same for each disk, image and snapshot.
    """

    seen: set[str]
    victim: int
    last: str = "begin"

    def __call__(self, progress: Progress) -> None:
        print(progress.step, progress.message, file=sys.stderr)  # noqa: T201  for who reads a failure
        if not progress.step:
            return
        step = re.sub(r"disk\d(\.\d+)?|: \d+ %", "", progress.step)
        if step == self.last:
            return
        key, self.last = f"{self.last} → {step}", step
        if key not in self.seen:
            self.seen.add(key)
            if self.victim:
                tell(died=key)
                pid, self.victim = self.victim, 0
                with suppress(ProcessLookupError):  # it may have been ended already
                    os.kill(pid, signal.SIGKILL)


async def live(directory: str, machine: str) -> None:
    """One life."""
    async with qorch.open_supervisor(Path(directory)) as supervisor:
        await supervisor.block.wait_quiet(machine)
        tell(alive=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            request = json.loads(line)
            verb = globals()[f"do_{request.pop('do')}"]
            tell(answer=await verb(supervisor, machine, **request))


async def do_work(
    supervisor: Supervisor,
    machine: str,
    method: str,
    words: list[str],
    options: dict[str, Any],
    seen: list[str],
    who: str | None = None,
) -> str | None:
    """Work on disks, in which somebody dies; what the error was, if it comes to an end."""
    ran = supervisor.machine(machine) if who == "qemu" else None
    pid = ran.process.pid if ran else os.getpid() if who else 0
    deadly = Deadly(set(seen), pid)
    paths = {key: Path(options[key]) for key in ("directory", "path") if options.get(key)}
    try:
        await getattr(supervisor.block, method)(machine, *words, **options | paths, report=deadly)
    except Exception as error:  # noqa: BLE001
        return str(error)
    finally:
        if ran and not deadly.victim:
            await ran.ended.wait()
            while machine in supervisor.machine_names and supervisor.machine(machine) is ran:
                await trio.lowlevel.checkpoint()
    return None


async def do_look(supervisor: Supervisor, machine: str) -> dict[str, Any]:
    """What is known of the machine and its images."""
    rows = supervisor.block.find_snapshots(machine)
    return {**await supervisor.show_machine(machine), "snapshots": rows}


async def do_start(supervisor: Supervisor, machine: str) -> None:
    """Start it, for its images' sake alone."""
    await supervisor.start_machine(machine)
    await supervisor.block.pause_machine(machine)


async def do_kill(supervisor: Supervisor, machine: str) -> None:
    """End it."""
    await supervisor.kill_machine(machine)


async def do_verify(supervisor: Supervisor, machine: str) -> list[list[int]]:
    """Have the guest read its two disks: the newest record, and how many are bad."""
    with supervisor.open_console(machine) as console:
        await console.send(b"v")
        text = b""
        while len(found := _VERIFIED.findall(text)) < 2:
            text += await anext(console)
    return [[int(number) for number in numbers] for numbers in found]


async def warm_up(directory: str, machine: str) -> None:
    """Be a supervisor for a moment."""
    async with qorch.open_supervisor(Path(directory)) as supervisor:
        await supervisor.block.create_snapshot(machine, "warm")
        await supervisor.block.remove_snapshot(machine, "warm")


def lives() -> Iterator[int]:
    """Fork them; the exit status of each."""
    trio.run(warm_up, *sys.argv[1:])
    while True:
        if (pid := os.fork()) == 0:
            trio.run(live, *sys.argv[1:])
            os._exit(0)
        yield os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


for status in lives():
    if status != -signal.SIGKILL:
        sys.exit(status)
    tell(dead=True)
    if not sys.stdin.readline():
        break
