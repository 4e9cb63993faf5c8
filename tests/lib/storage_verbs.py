"""Every verb on volumes, by name, and a process that is killed at a named step of one."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import attrs

from qorch_storage import copies, volumes
from qorch_storage.copies import Copy, Mode
from qorch_storage.plan import ImageFormat, VolumePlan
from qorch_storage.pools import Pools
from qorch_storage.qemu_img import Source

MIB = 1 << 20
ORIGIN, NEW = "origin", "new"


def create(pools, pool, report):
    """Make an empty volume."""
    plan = VolumePlan(pool=pool, name=NEW, format=pools[pool].default_format, size=8 * MIB)
    volumes.create_volume(pools, plan, report=report)


def clone(pools, pool, report):
    """Make a copy that stands alone."""
    copy = Copy(pool=pool, name=NEW)
    copies.clone_volume(pools, pools.find_volume(pool, ORIGIN), copy, report=report)


def link(pools, pool, report):
    """Make an overlay."""
    copy = Copy(pool=pool, name=NEW)
    origin = pools.find_volume(pool, ORIGIN)
    copies.clone_volume(pools, origin, copy, mode=Mode.LINKED, report=report)


def thin(pools, pool, report):
    """Make a thin snapshot."""
    copy = Copy(pool=pool, name=NEW)
    origin = pools.find_volume(pool, ORIGIN)
    copies.clone_volume(pools, origin, copy, mode=Mode.THIN, report=report)


def import_(pools, pool, report):
    """Make a volume of a file."""
    origin = pools.find_volume(pool, ORIGIN)
    source = Source(path=origin.path, format=origin.format)
    copies.import_image(pools, source, Copy(pool=pool, name=NEW), report=report)


def export(pools, pool, report):
    """Write a volume to a file."""
    origin = pools.find_volume(pool, ORIGIN)
    path = Path(os.environ["EXPORT"])
    copies.export_volume(pools, origin, path, ImageFormat.QCOW2, report=report)


def resize(pools, pool, report):
    """Make a volume larger."""
    volumes.resize_volume(pools, pools.find_volume(pool, ORIGIN), 16 * MIB, report=report)


def rename(pools, pool, report):
    """Give a volume another name."""
    volumes.rename_volume(pools, pools.find_volume(pool, ORIGIN), NEW, report=report)


def wipe(pools, pool, report):
    """Overwrite and remove a volume."""
    volumes.wipe_volume(pools, pools.find_volume(pool, ORIGIN), report=report)


def remove(pools, pool, report):
    """Remove a volume."""
    volumes.remove_volume(pools, pools.find_volume(pool, ORIGIN), report=report)


VERBS = {
    name: verb
    for name, verb in globals().items()
    if getattr(verb, "__module__", None) == __name__ and callable(verb)
}


@attrs.frozen
class Done:
    """How a process ended, and the steps it came to."""

    status: int
    steps: list[str]


def run_elsewhere(plans, pool, verb, at="", *, export_to=None):
    """Run a verb in a process that is killed at a step; without a step, it runs to its end.

    The process is a fork: in the test VM an interpreter takes seconds to start.
    """
    reading, writing = os.pipe()

    def run():
        os.close(reading)
        os.environ["EXPORT"] = str(export_to)
        VERBS[verb](Pools.from_plans(plans), pool, report)

    def report(step):
        os.write(writing, f"{step}\n".encode())
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    os.close(writing)
    with os.fdopen(reading) as pipe:
        steps = pipe.read().splitlines()
    process.join()
    return Done(process.exitcode, steps)
