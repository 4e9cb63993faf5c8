"""Every verb on volumes, by name, and a process that is killed at a named step of one.

Run as a program: `PLANS VERB STEP` with the pools' plans as JSON; without a step it runs to its end
and prints the steps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from qorch_storage import copies, volumes
from qorch_storage.copies import Copy, Mode
from qorch_storage.plan import ImageFormat, PoolPlan, PoolType, VolumePlan
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


def run_elsewhere(plans, pool, verb, step="", *, export_to=None):
    """Run a verb in a process that is killed at a step; how it ended."""
    texts = [
        {
            "name": plan.name,
            "type": plan.type.value,
            "path": str(plan.path),
            "vg": plan.vg,
            "thin_pool": plan.thin_pool,
            "owner": plan.owner,
        }
        for plan in plans
    ]
    words = [sys.executable, __file__, json.dumps(texts), pool, verb, step]
    env = os.environ | {"EXPORT": str(export_to)}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=env)


def main(texts, pool, verb, at):
    """Run a verb, and die at a step."""
    plans = [
        PoolPlan(**{**text, "type": PoolType(text["type"]), "path": Path(text["path"])})
        for text in json.loads(texts)
    ]

    def report(step):
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    VERBS[verb](Pools.from_plans(plans), pool, report)


if __name__ == "__main__":
    main(*sys.argv[1:])
