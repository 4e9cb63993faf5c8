"""Volumes in a volume group and in a thin pool: real LVM, in the test VM; every LV is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import attrs
import pytest
from storage_verbs import NEW, ORIGIN, run_elsewhere

from qorch_storage.copies import Copy, Mode, clone_volume, export_volume, import_image
from qorch_storage.errors import MissingError, StorageError
from qorch_storage.lvm.commands import find_group, run_lvm
from qorch_storage.plan import ImageFormat, PoolPlan, PoolType, Preallocation, VolumePlan
from qorch_storage.policy import ExtendPolicy
from qorch_storage.pools import Pools
from qorch_storage.qemu_img import Source
from qorch_storage.volumes import (
    create_volume,
    remove_volume,
    rename_volume,
    resize_volume,
    wipe_volume,
)

pytestmark = pytest.mark.testbed

MIB = 1 << 20
VG, THIN, OWNER = "qorch-test", "tp", "0123abcd"
RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2
DISK_FORMATS = [RAW, QCOW2, ImageFormat.VMDK, ImageFormat.VDI, ImageFormat.QED]


def run(*words):
    """Run a program that must succeed."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def vg(tmp_path_factory):
    """A volume group on a loop device, with a thin pool and an LV of somebody else."""
    disk = tmp_path_factory.mktemp("pv") / "disk"
    with disk.open("wb") as file:
        file.truncate(1 << 30)
    loop = run("losetup", "-f", "--show", str(disk)).strip()
    run_lvm("pvcreate", "-q", loop)
    run_lvm("vgcreate", "-q", VG, loop)
    run_lvm("lvcreate", "-y", "-q", "--type", "thin-pool", "-L", "128M", "-n", THIN, VG)
    run_lvm("lvcreate", "-y", "-q", "-L", "8M", "-n", "others", VG)
    yield VG
    left = set(find_group(VG).volumes)
    run_lvm("vgremove", "-f", "-y", VG)
    run("losetup", "-d", loop)
    assert left == {"others", THIN}


@pytest.fixture
def plans(vg, tmp_path):
    """A pool of each kind."""
    return [
        PoolPlan(name="dir", path=tmp_path / "pool"),
        PoolPlan(name="lvm", type=PoolType.LVM, vg=vg, owner=OWNER),
        PoolPlan(name="thin", type=PoolType.LVM_THIN, vg=vg, thin_pool=THIN, owner=OWNER),
    ]


@pytest.fixture
def pools(plans, vg):
    """All of them; what a test made is removed, and what it left half-made is an error."""
    yield Pools.from_plans(plans)
    found = find_group(vg).volumes.values()
    ours = [f"{vg}/{lv.name}" for lv in found if f"qorch:{OWNER}" in lv.tags]
    if ours:
        run_lvm("lvremove", "-y", *ours)
    assert [name for name in ours if "/qorch-" in name] == []
    assert {lv.name for lv in found} - {name.partition("/")[2] for name in ours} == {"others", THIN}


@pytest.fixture
def content(tmp_path):
    """A raw image of 8 MiB with data, zeroes and holes."""
    path = tmp_path / "content.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        for at in (0, 65536 * 3 + 512, 5 * MIB):
            file.seek(at)
            file.write(os.urandom(4096))
    return path


def compare(content, path, form):
    """An image that is not the same is an error; LVM rounds sizes up, and the rest must be zero."""
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", form, content, path)


def make(pools, pool, name=ORIGIN, size=8 * MIB, **options):
    """Make a volume, and find it."""
    create_volume(pools, VolumePlan(pool=pool, name=name, format=RAW, size=size, **options))
    return pools.find_volume(pool, name)


@pytest.mark.parametrize("pool", ["lvm", "thin"])
@pytest.mark.parametrize("form", DISK_FORMATS)
def test_every_format_into_lvm_and_back(pools, content, tmp_path, pool, form):
    """Each format comes into an LV and out of it again, identical; zeroes take no room if thin."""
    image = tmp_path / f"a.{form}"
    run("qemu-img", "convert", "-f", "raw", "-O", form, content, image)
    path = import_image(pools, Source(path=image, format=form), Copy(pool=pool, name="v"))
    compare(content, path, RAW)
    (volume,) = [found for found in pools[pool].find_volumes() if found.name == "v"]
    assert pool == "lvm" or volume.image.allocation < MIB
    back = clone_volume(pools, volume, Copy(pool="dir", name="back", format=form))
    compare(content, back, form)


@pytest.mark.parametrize(("one", "other"), [("lvm", "thin"), ("thin", "lvm")])
def test_lvm_into_lvm(pools, content, one, other):
    """An LV is copied into another kind of LV, identical."""
    import_image(pools, Source(path=content, format=RAW), Copy(pool=one, name="a"))
    path = clone_volume(pools, pools.find_volume(one, "a"), Copy(pool=other, name="b"))
    compare(content, path, RAW)


def test_export(pools, content, tmp_path):
    """An LV is written to a file as any other volume."""
    import_image(pools, Source(path=content, format=RAW), Copy(pool="lvm", name="a"))
    export_volume(pools, pools.find_volume("lvm", "a"), tmp_path / "e.qcow2", QCOW2)
    compare(content, tmp_path / "e.qcow2", QCOW2)


def test_linked_clone_of_an_lv(pools, content):
    """An overlay in a dir pool builds on an LV, which then cannot be removed, shrunk or renamed."""
    import_image(pools, Source(path=content, format=RAW), Copy(pool="lvm", name=ORIGIN))
    origin = pools.find_volume("lvm", ORIGIN)
    copy = Copy(pool="dir", name="over", format=QCOW2)
    path = clone_volume(pools, origin, copy, mode=Mode.LINKED)
    compare(content, path, QCOW2)
    for change in (
        lambda: remove_volume(pools, origin),
        lambda: wipe_volume(pools, origin),
        lambda: rename_volume(pools, origin, "x"),
        lambda: resize_volume(pools, origin, 4 * MIB, force=True),
    ):
        with pytest.raises(StorageError, match=r"is the backing file of dir/over\.qcow2"):
            change()
    remove_volume(pools, pools.find_volume("dir", "over"))
    remove_volume(pools, origin)


def test_thin_clone(pools, content):
    """A thin clone shares blocks, keeps its own changes, and outlives its origin."""
    import_image(pools, Source(path=content, format=RAW), Copy(pool="thin", name=ORIGIN))
    origin = pools.find_volume("thin", ORIGIN)
    path = clone_volume(pools, origin, Copy(pool="thin", name=NEW), mode=Mode.THIN)
    origin.path.write_bytes(b"changed".ljust(4096))
    compare(content, path, RAW)
    (origin_of,) = [v.origin for v in pools["thin"].find_volumes() if v.name == NEW]
    assert origin_of == ORIGIN
    remove_volume(pools, origin)
    compare(content, path, RAW)


@pytest.mark.parametrize("pool", ["lvm", "thin"])
def test_resize(pools, pool):
    """An LV grows, and shrinks only when that is forced."""
    volume = make(pools, pool)
    resize_volume(pools, volume, 32 * MIB)
    volume = pools.find_volume(pool, ORIGIN)
    assert volume.image.virtual_size == 32 * MIB
    with pytest.raises(StorageError, match="would cut"):
        resize_volume(pools, volume, 16 * MIB)
    resize_volume(pools, volume, 16 * MIB, force=True)
    assert pools.find_volume(pool, ORIGIN).image.virtual_size == 16 * MIB


def test_space_and_overcommit(pools):
    """A thin pool tells what it has, what is taken, and that more is promised than there is."""
    before = pools["thin"].find_space()
    volume = make(pools, "thin", size=1 << 40)
    with volume.path.open("r+b") as file:
        file.write(os.urandom(4 * MIB))
    space = pools["thin"].find_space()
    assert space.capacity == 128 * MIB
    step = space.capacity // 10_000  # LVM says it in hundredths of a percent
    assert 4 * MIB - step <= space.allocation - before.allocation < 6 * MIB
    assert space.overcommit > 8000
    assert pools["thin"].extend(None, ExtendPolicy(step=32 * MIB)) == 32 * MIB
    assert pools["thin"].find_space().capacity == 160 * MIB
    make(pools, "lvm", name="linear")
    space = pools["lvm"].find_space()
    assert space.capacity == space.allocation + space.free


@pytest.mark.parametrize("pool", ["lvm", "thin"])
def test_ensure_again(pools, pool):
    """A volume that is there is left alone, active or not; a larger plan is refused."""
    volume = make(pools, pool)
    volume.path.write_bytes(b"mine".ljust(4096))
    plan = VolumePlan(pool=pool, name=ORIGIN, format=RAW, size=8 * MIB)
    run_lvm("lvchange", "-an", f"{VG}/{ORIGIN}")
    assert pools[pool].ensure_volume(plan) == volume.path
    assert volume.path.read_bytes()[:4] == b"mine"
    with pytest.raises(StorageError, match=r"differs: it has .* bytes, not"):
        pools[pool].ensure_volume(attrs.evolve(plan, size=1 << 30))


def test_wiped(pools):
    """What was on a wiped volume is on no block of the volume group any more."""
    volume = make(pools, "lvm", preallocation=Preallocation.FULL)
    secret = os.urandom(4096)
    volume.path.write_bytes(secret)
    wipe_volume(pools, volume)
    again = make(pools, "lvm")
    with again.path.open("rb") as file:
        assert secret not in file.read()


def test_what_is_not_ours(pools):
    """An LV of others is listed, can be copied, and is neither changed nor removed."""
    (others,) = pools["lvm"].find_volumes()
    assert (others.name, others.ours) == ("others", False)
    for change in (
        lambda: remove_volume(pools, others),
        lambda: wipe_volume(pools, others),
        lambda: rename_volume(pools, others, "x"),
        lambda: resize_volume(pools, others, 64 * MIB),
    ):
        with pytest.raises(StorageError, match="was not made by us"):
            change()
    clone_volume(pools, others, Copy(pool="dir", name="copy"))
    assert others in pools["lvm"].find_volumes()


def test_bad_input(pools, plans, vg, monkeypatch, tmp_path):
    """What cannot be is one clear error with a hint, and nothing is changed."""
    before = find_group(vg)
    gone = attrs.evolve(plans[1], name="gone", vg="qorch-gone", path=Path("/dev/qorch-gone"))
    no_thin = attrs.evolve(plans[2], name="no-thin", thin_pool="none")
    more = Pools.from_plans([*plans, gone, no_thin])
    for pool, plan, message in (
        ("lvm", {"size": 1 << 40}, "pool lvm is full: .* are missing"),
        ("gone", {}, "there is no volume group qorch-gone"),
        ("no-thin", {}, "has no thin pool none"),
        ("lvm", {"name": "a b"}, "is not the name of a logical volume"),
        ("lvm", {"name": "x_tmeta"}, "LVM keeps for itself"),
        ("lvm", {"format": QCOW2}, "which are raw, not qcow2"),
    ):
        wanted = {"pool": pool, "name": "v", "format": RAW, "size": MIB, **plan}
        with pytest.raises(StorageError, match=message) as caught:
            create_volume(more, VolumePlan(**wanted))
        assert caught.value.hint
    with pytest.raises(MissingError, match="there is no volume 'v'"):
        more.find_volume("lvm", "v")
    monkeypatch.setattr("qorch_storage.run._SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="is not installed") as caught:
        more["lvm"].find_space()
    assert caught.value.hint == "apt-get install lvm2"
    monkeypatch.undo()
    assert find_group(vg) == before


@pytest.mark.parametrize("pool", ["lvm", "thin"])
def test_in_use(pools, pool):
    """An LV that a QEMU has open is not removed, shrunk or wiped, and the error says who it is."""
    volume = make(pools, pool)
    words = ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-machine", "q35"]
    words += ["-blockdev", f"driver=host_device,node-name=d,filename={volume.path}"]
    words += ["-device", "virtio-blk-pci,drive=d", "-qmp", "stdio"]
    env = os.environ | {"QORCH_OWNER": f"{OWNER}:vm/web"}
    changes = (
        lambda: remove_volume(pools, volume),
        lambda: wipe_volume(pools, volume),
        lambda: resize_volume(pools, volume, 4 * MIB, force=True),
    )
    with subprocess.Popen(words, env=env, stdin=-1, stdout=-1, text=True) as qemu:
        try:
            json.loads(qemu.stdout.readline())  # it has opened all by the time that it greets
            for change in changes:
                words = rf"in use by machine web \(pid {qemu.pid}\)"
                with pytest.raises(StorageError, match=words):
                    change()
        finally:
            qemu.kill()


def test_open_by_others(pools):
    """An LV that another program has open is not removed either."""
    volume = make(pools, "lvm")
    with volume.path.open("rb"), pytest.raises(StorageError, match="in use"):
        remove_volume(pools, volume)
    assert volume.path.exists()


STEPS = {
    "create": ["create logical volume"],
    "clone": ["create logical volume", "copy data", "sync logical volume", "rename logical volume"],
    "thin": ["create snapshot"],
    "rename": ["rename logical volume"],
    "wipe": ["hide logical volume", "wipe logical volume"],
    "remove": ["remove logical volume"],
    "resize": ["resize logical volume"],
}
THIN_VERBS = ("create", "clone", "thin", "wipe")  # of the others, both kinds have the same code


@pytest.mark.parametrize("pool", ["lvm", "thin"])
def test_kill_at_each_step(plans, pools, content, pool):
    """Killed at any step, no half-made volume is seen; the next start ends it, a retry works."""
    for verb in STEPS if pool == "lvm" else THIN_VERBS:
        if (pool, verb) != ("lvm", "thin"):
            kill_at_each_step(plans, pools, content, pool, verb)


def kill_at_each_step(plans, pools, content, pool, verb):
    """Kill one verb; what it leaves serves the next one: LVM takes its time to make anything."""
    if pools[pool].find_volume(ORIGIN) is None:
        import_image(pools, Source(path=content, format=RAW), Copy(pool=pool, name=ORIGIN))
    for step in STEPS[verb]:
        killed = run_elsewhere(plans, pool, verb, step)
        assert killed.status == -signal.SIGKILL, (verb, step)
        names = [volume.name for volume in pools[pool].find_volumes() if volume.ours]
        assert names == ([] if step == "wipe logical volume" else [ORIGIN]), (verb, step)
        pools[pool].remove_stale()
        if names:
            compare(content, pools.find_volume(pool, ORIGIN).path, RAW)
    if names:
        done = run_elsewhere(plans, pool, verb)
        assert (done.status, done.steps) == (0, STEPS[verb])
    new = pools[pool].find_volume(NEW) if verb in {"create", "clone", "thin", "rename"} else None
    if new is not None and verb == "rename":
        rename_volume(pools, new, ORIGIN)
    elif new is not None:
        remove_volume(pools, new)
