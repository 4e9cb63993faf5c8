"""Making, cloning and removing volumes, beside bare qemu-img and LVM doing the same.

In a dir pool anywhere; with LVM where device-mapper works, as in the test VM:
`scripts/testbed -- scripts/bench storage 10`. The bare ones sync what they made, as ours do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import common

from qorch_storage.copies import Copy, Mode, clone_volume
from qorch_storage.errors import StorageError
from qorch_storage.lvm import commands
from qorch_storage.plan import ImageFormat, PoolPlan, PoolType, VolumePlan
from qorch_storage.pools import Pools
from qorch_storage.volumes import create_volume, remove_volume

LIMIT = 1.3
SIZE = 64 << 20
VG = "qorch-bench"
QCOW2, RAW = ImageFormat.QCOW2, ImageFormat.RAW


def run(*words: str | Path) -> None:
    """Run a program that must succeed, as plainly as can be."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sync(path: Path) -> None:
    """What a file, or its absence, needs to last through a power cut."""
    for place in {path, path if path.is_dir() else path.parent}:
        fd = os.open(place, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def make_dir_duels(directory: Path) -> list[common.Duel]:
    """Create, clone and remove a qcow2 volume."""
    pools = Pools.from_plans([PoolPlan(name="p", path=directory)])
    plan = VolumePlan(pool="p", name="new", format=QCOW2, size=SIZE)
    origin = create_volume(pools, VolumePlan(pool="p", name="origin", format=QCOW2, size=SIZE))
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 16M", origin)
    new = directory / "new.qcow2"
    words = ("qemu-img", "create", "-q", "-f", "qcow2", new, str(SIZE))
    convert = ("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", origin, new)
    copy = Copy(pool="p", name="new")
    return [
        common.Duel(
            name="qcow2 created",
            bare=lambda: (run(*words), sync(new)),
            ours=lambda: create_volume(pools, plan),
            undo=new.unlink,
            limit=LIMIT,
        ),
        common.Duel(
            name="qcow2 cloned, 16 MiB",
            bare=lambda: (run(*convert), sync(new)),
            ours=lambda: clone_volume(pools, pools.find_volume("p", "origin"), copy),
            undo=new.unlink,
            limit=LIMIT,
        ),
        common.Duel(
            name="qcow2 removed",
            prepare=lambda: (run(*words), sync(new)),
            bare=lambda: (run("rm", new), sync(directory)),
            ours=lambda: remove_volume(pools, pools.find_volume("p", "new")),
            limit=LIMIT,
        ),
    ]


@contextmanager
def open_group(directory: Path) -> Iterator[bool]:
    """A volume group with a thin pool on a loop device; yields whether there can be one."""
    disk = directory / "disk"
    disk.touch()
    os.truncate(disk, 2 << 30)
    attach = ("losetup", "-f", "--show", disk)
    done = subprocess.run(attach, capture_output=True, text=True, check=False)
    loop = done.stdout.strip()
    if not loop:
        yield False
        return
    try:
        commands.run_lvm("pvcreate", "-q", loop)
        commands.run_lvm("vgcreate", "-q", VG, loop)
        try:
            thin = ("--type", "thin-pool", "-L", "512M", "-n", "tp")
            commands.run_lvm("lvcreate", "-y", *thin, VG)
            yield True
        except StorageError:
            yield False
        finally:
            commands.run_lvm("vgremove", "-f", "-y", VG)
    finally:
        run("losetup", "-d", loop)


def make_lvm_duels() -> list[common.Duel]:
    """Create, snapshot and remove LVs."""
    plans = [
        PoolPlan(name="lvm", type=PoolType.LVM, vg=VG),
        PoolPlan(name="thin", type=PoolType.LVM_THIN, vg=VG, thin_pool="tp"),
    ]
    pools = Pools.from_plans(plans)
    lvm = VolumePlan(pool="lvm", name="new", format=RAW, size=SIZE)
    thin = VolumePlan(pool="thin", name="new", format=RAW, size=SIZE)
    origin = pools["thin"].ensure_volume(
        VolumePlan(pool="thin", name="origin", format=RAW, size=SIZE)
    )

    def bare(*words: str) -> None:
        commands.run_lvm(words[0], "-y", *words[1:])

    def remove() -> None:
        bare("lvremove", f"{VG}/new")

    linear = ("lvcreate", "-n", "new", "-L", f"{SIZE}b", "-Wy", "-Zy")
    as_thin = ("lvcreate", "--type", "thin", "-n", "new", "-V", f"{SIZE}b", "--thinpool")
    clone = Copy(pool="thin", name="new")
    return [
        common.Duel(
            name="LV created",
            bare=lambda: bare(*linear, VG),
            ours=lambda: create_volume(pools, lvm),
            undo=remove,
            limit=LIMIT,
        ),
        common.Duel(
            name="thin LV created",
            bare=lambda: bare(*as_thin, f"{VG}/tp"),
            ours=lambda: create_volume(pools, thin),
            undo=remove,
            limit=LIMIT,
        ),
        common.Duel(
            name="thin LV cloned",
            bare=lambda: bare("lvcreate", "-s", "-kn", "-n", "new", f"{VG}/{origin.name}"),
            ours=lambda: clone_volume(
                pools, pools.find_volume("thin", "origin"), clone, mode=Mode.THIN
            ),
            undo=remove,
            limit=LIMIT,
        ),
        common.Duel(
            name="LV removed",
            prepare=lambda: bare(*linear, "--addtag", "qorch", VG),
            bare=remove,
            ours=lambda: remove_volume(pools, pools.find_volume("lvm", "new")),
            limit=LIMIT,
        ),
    ]


def main() -> bool:
    """Measure, and tell whether all is within its limit."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory(prefix="qorch-bench-") as name:
        directory = Path(name)
        good = common.run(make_dir_duels(directory / "pool"), rounds)
        with suppress(StorageError, PermissionError), open_group(directory) as there:
            if there:
                good = common.run(make_lvm_duels(), rounds) and good
    return good


if __name__ == "__main__":
    sys.exit(not main())
