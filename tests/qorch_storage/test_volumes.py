"""The verbs on volumes: what is wrong is one clear error, and nothing is changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qorch_storage.copies import Copy, Mode, clone_volume
from qorch_storage.errors import MissingError, StorageError
from qorch_storage.files import finish_wipes
from qorch_storage.image import find_image
from qorch_storage.plan import (
    Backing,
    ImageFormat,
    PoolPlan,
    PoolType,
    Preallocation,
    VolumePlan,
)
from qorch_storage.policy import ExtendPolicy, decide_extension
from qorch_storage.pool import make_pool
from qorch_storage.pools import Pools
from qorch_storage.tree import make_tree
from qorch_storage.volumes import (
    check_volume,
    create_volume,
    remove_volume,
    rename_volume,
    resize_volume,
    wipe_volume,
)

MIB = 1 << 20
RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2


@pytest.fixture
def pools(tmp_path):
    """Two dir pools; no hidden file may be left in them."""
    pools = Pools.from_plans(PoolPlan(name=name, path=tmp_path / name) for name in ("p", "q"))
    yield pools
    assert list(tmp_path.glob("*/.*")) == []


def make(pools, name="v", form=QCOW2, pool="p", size=MIB, **rest):
    """Make a volume, and find it."""
    create_volume(pools, VolumePlan(pool=pool, name=name, format=form, size=size, **rest))
    return pools.find_volume(pool, f"{name}.{form}")


def link(pools, volume, name="over", pool="p"):
    """Make an overlay of a volume, and find it."""
    clone_volume(pools, volume, Copy(pool=pool, name=name), mode=Mode.LINKED)
    return pools.find_volume(pool, name)


@pytest.mark.parametrize("form", [RAW, QCOW2, ImageFormat.QED])
def test_grow(pools, form):
    """A volume grows, and asking for the size that it has does nothing."""
    volume = make(pools, form=form)
    resize_volume(pools, volume, 4 * MIB)
    volume = pools.find_volume("p", "v")
    assert volume.image.virtual_size == 4 * MIB
    steps = []
    resize_volume(pools, volume, 4 * MIB, report=steps.append)
    assert steps == []


@pytest.mark.parametrize("form", [RAW, QCOW2])
def test_shrink(pools, form):
    """A volume shrinks only if that is forced."""
    volume = make(pools, form=form, size=4 * MIB)
    before = volume.path.read_bytes()
    with pytest.raises(StorageError, match="would cut 3145728 off") as caught:
        resize_volume(pools, volume, MIB)
    assert "--force" in caught.value.hint
    assert volume.path.read_bytes() == before
    resize_volume(pools, volume, MIB, force=True)
    assert pools.find_volume("p", "v").image.virtual_size == MIB


@pytest.mark.parametrize("form", [ImageFormat.VMDK, ImageFormat.VDI])
def test_formats_that_keep_their_size(pools, form):
    """A format that QEMU cannot resize says what to do instead."""
    volume = make(pools, form=form)
    with pytest.raises(StorageError, match=f"{form} volumes cannot be resized") as caught:
        resize_volume(pools, volume, 2 * MIB)
    assert "qcow2" in caught.value.hint


@pytest.mark.parametrize("size", [0, -512, 1000])
def test_sizes_that_are_none(pools, size):
    """Size 0, or one that is no whole number of sectors, is refused."""
    with pytest.raises(StorageError, match="is not a volume size"):
        resize_volume(pools, make(pools), size)


def test_what_others_build_on(pools):
    """A volume that others build on, in any pool, is not changed; the error names them."""
    base = make(pools)
    overlays = [link(pools, base), link(pools, base, "far", "q")]
    before = base.path.read_bytes()
    for change in (
        lambda: resize_volume(pools, base, 4 * MIB),
        lambda: resize_volume(pools, base, 512, force=True),
        lambda: rename_volume(pools, base, "w"),
        lambda: wipe_volume(pools, base),
        lambda: remove_volume(pools, base),
    ):
        with pytest.raises(StorageError, match=r"backing file of p/over\.qcow2, q/far\.qcow2"):
            change()
    assert base.path.read_bytes() == before
    for overlay in overlays:
        remove_volume(pools, overlay)
    remove_volume(pools, base)
    assert pools.find_volumes() == ()


@pytest.mark.parametrize("form", [ImageFormat.VMDK, ImageFormat.QED])
def test_overlays_of_other_formats(pools, qemu_img, form):
    """Overlays that others made, in formats that we do not make them in, count as well."""
    base = make(pools, form=form)
    path = base.path.with_name(f"over.{form}")
    qemu_img("create", "-q", "-f", form, "-b", base.path, "-F", form, path)
    with pytest.raises(StorageError, match=f"backing file of p/over.{form}"):
        remove_volume(pools, base)


def test_base_behind_a_link(pools, tmp_path):
    """A base that is reached through a symbolic link is the same base."""
    base = make(pools)
    alias = tmp_path / "alias"
    alias.symlink_to(tmp_path / "p")
    backing = Backing(path=alias / "v.qcow2", format=QCOW2)
    create_volume(pools, VolumePlan(pool="q", name="over", format=QCOW2, backing=backing))
    with pytest.raises(StorageError, match="is the backing file of q/over"):
        remove_volume(pools, base)


def test_backing_outside(pools, tmp_path, qemu_img):
    """An image that somebody names may lie anywhere; what it claims to build on may not."""
    secret, evil = tmp_path / "secret.raw", tmp_path / "evil.qcow2"
    secret.write_bytes(b"secret".ljust(512))
    qemu_img("create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", evil)
    named = Backing(path=secret, format=RAW)
    create_volume(pools, VolumePlan(pool="p", name="fine", format=QCOW2, backing=named))
    claimed = Backing(path=evil, format=QCOW2)
    with pytest.raises(StorageError, match=r"evil.qcow2 builds on .*secret.raw, which lies in no"):
        create_volume(pools, VolumePlan(pool="p", name="bad", format=QCOW2, backing=claimed))
    (tmp_path / "q").mkdir()
    sneaky = tmp_path / "q" / "inside.raw"
    sneaky.symlink_to(secret)
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", sneaky, "-F", "raw", evil)
    with pytest.raises(StorageError, match="which lies in no pool"):
        create_volume(pools, VolumePlan(pool="p", name="bad", format=QCOW2, backing=claimed))
    assert [volume.name for volume in pools["p"].find_volumes()] == ["fine.qcow2"]


def test_backing_that_was_named(tmp_path, qemu_img):
    """An image outside of the pools may be built on if somebody named it."""
    base, over = tmp_path / "base.raw", tmp_path / "p" / "over.qcow2"
    base.write_bytes(bytes(MIB))
    over.parent.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", over)
    plans = [PoolPlan(name="p", path=tmp_path / "p")]
    for named in ((), (base,)):
        pools = Pools.from_plans(plans, named)
        volume = pools.find_volume("p", "over")
        if named:
            assert len(pools.find_chain(volume)) == 2
        else:
            with pytest.raises(StorageError, match="lies in no pool"):
                pools.find_chain(volume)


def test_tree(pools, tmp_path, base, qemu_img):
    """The tree shows every chain from its base, also one outside, and a ring only once."""
    root = make(pools, "root")
    link(pools, link(pools, root, "mid"), "leaf", "q")
    create_volume(
        pools,
        VolumePlan(pool="p", name="out", format=QCOW2, backing=Backing(path=base, format=RAW)),
    )
    for one, other in (("x", "y"), ("y", "x")):
        words = ["-b", tmp_path / "p" / f"{other}.qcow2", "-F", "qcow2"]
        qemu_img("create", "-q", "-u", "-f", "qcow2", *words, tmp_path / "p" / f"{one}.qcow2", "1M")

    def draw(nodes):
        return {node.path.name: draw(node.children) for node in nodes}

    tree = draw(make_tree(pools.find_volumes()))
    assert tree.pop("x.qcow2", None) == {"y.qcow2": {}} or tree.pop("y.qcow2") == {"x.qcow2": {}}
    assert tree == {
        "root.qcow2": {"mid.qcow2": {"leaf.qcow2": {}}},
        "base.raw": {"out.qcow2": {}},
    }


def test_names(pools):
    """A volume is found by its file or its stem; what could be several is refused."""
    make(pools, "a", QCOW2)
    assert pools.find_volume("p", "a").name == "a.qcow2"
    make(pools, "a", RAW)
    assert pools.find_volume("p", "a.raw").name == "a.raw"
    with pytest.raises(StorageError, match=r"could be each of a\.qcow2, a\.raw"):
        pools.find_volume("p", "a")
    with pytest.raises(MissingError, match="there is no volume 'b' in pool p"):
        pools.find_volume("p", "b")
    with pytest.raises(MissingError, match="there is no pool 'none'"):
        pools.find_volume("none", "a")
    for name in ("../a", "a/b", ""):
        with pytest.raises(StorageError, match="is not a volume name"):
            pools.find_volume("p", name)


def test_rename(pools):
    """A volume gets another name and keeps its suffix; one that is taken is refused."""
    volume, other = make(pools, "a"), make(pools, "b")
    with pytest.raises(StorageError, match="exists already"):
        rename_volume(pools, volume, "b")
    assert rename_volume(pools, volume, "c").name == "c.qcow2"
    assert [found.name for found in pools.find_volumes()] == ["b.qcow2", "c.qcow2"]
    with pytest.raises(StorageError, match="is not a volume name"):
        rename_volume(pools, other, "../x")


def test_names_are_taken(pools):
    """Making a volume never replaces one, nor what another one put there."""
    make(pools)
    with pytest.raises(StorageError, match="exists already"):
        make(pools)


def test_wipe(pools, tmp_path):
    """What a wiped file held is overwritten on the disk, seen through another link to it."""
    volume = make(pools, form=RAW)
    volume.path.write_bytes(b"secret".ljust(MIB))
    witness = tmp_path / "witness"
    witness.hardlink_to(volume.path)
    wipe_volume(pools, volume)
    assert not any(witness.read_bytes())
    assert pools.find_volumes() == ()


def test_a_link_is_not_wiped(pools, tmp_path):
    """Neither is what it leads to; nothing is hidden. It can be removed."""
    secret = tmp_path / "secret.raw"
    secret.write_bytes(b"secret".ljust(MIB))
    make(pools, form=RAW)
    (tmp_path / "p" / "link.raw").symlink_to(secret)
    volume = pools.find_volume("p", "link.raw")
    with pytest.raises(StorageError, match=f"is a symbolic link to {secret}"):
        wipe_volume(pools, volume)
    remove_volume(pools, volume)
    assert secret.read_bytes().startswith(b"secret")


def test_wiping_goes_on(pools, tmp_path):
    """A wipe that was killed is finished by whoever comes next, and only then removed."""
    volume = make(pools, form=RAW)
    volume.path.write_bytes(b"secret".ljust(MIB))
    (tmp_path / "witness").hardlink_to(volume.path)
    hidden = volume.path.rename(volume.path.with_name(".qorch-wipe-dead"))
    assert pools.find_volumes() == ()
    assert finish_wipes(tmp_path / "p") == (hidden,)
    assert not any((tmp_path / "witness").read_bytes())


def test_check_and_repair(pools, qemu_img):
    """A leak is found, told, and repaired; repairing again finds nothing."""
    volume = make(pools, size=16 * MIB)
    refcounts = int.from_bytes(volume.path.read_bytes()[48:56])
    with volume.path.open("r+b") as file:
        file.seek(refcounts)
        block = int.from_bytes(file.read(8))
        clusters = -(-os.fstat(file.fileno()).st_size // (1 << 16))
        file.truncate((clusters + 1) << 16)
        file.seek(block + 2 * clusters)
        file.write((1).to_bytes(2))
    found = check_volume(volume)
    assert (found.leaks, found.corruptions) == (1, 0)
    assert check_volume(volume, repair="leaks").repaired == 1
    assert check_volume(volume).clean


@pytest.mark.parametrize("form", [RAW, pytest.param(ImageFormat.LUKS, marks=pytest.mark.slow)])
def test_nothing_to_check(pools, tmp_path, form):
    """A format without records says so."""
    key = tmp_path / "key"
    key.write_text("words")
    volume = make(pools, form=form, passphrase_file=key if form is not RAW else None)
    with pytest.raises(StorageError, match="have no records"):
        check_volume(volume)


def test_corrupt_header(pools, qemu_img):
    """A volume whose header is damaged is listed with its problem, and cannot be resized."""
    volume = make(pools)
    volume.path.write_bytes(b"QFI\xfb" + b"\xff" * 512)
    broken = pools.find_volume("p", "v")
    assert "is not a usable qcow2 image" in broken.problem
    with pytest.raises(StorageError, match="cannot be used"):
        resize_volume(pools, broken, 4 * MIB)
    with pytest.raises(StorageError, match="qemu-img failed"):
        check_volume(broken)
    remove_volume(pools, broken)


@pytest.mark.parametrize(
    ("preallocation", "form", "least"),
    [
        (Preallocation.OFF, RAW, 0),
        (Preallocation.FALLOC, RAW, MIB),
        (Preallocation.FULL, RAW, MIB),
        (Preallocation.METADATA, QCOW2, 0),
        (Preallocation.FALLOC, QCOW2, MIB),
        (Preallocation.FULL, QCOW2, MIB),
    ],
)
def test_preallocation(pools, preallocation, form, least):
    """A volume takes its room at once if that is asked for, and is sparse otherwise."""
    volume = make(pools, form=form, preallocation=preallocation)
    found = find_image(volume.path)
    assert found.allocation >= least
    assert found.virtual_size == MIB
    if not least:
        assert found.allocation < MIB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": RAW, "compression": "zstd"}, "have no compression"),
        ({"format": RAW, "lazy_refcounts": True}, "have no lazy_refcounts"),
        ({"format": RAW, "passphrase_file": Path("/k")}, "cannot be encrypted"),
        ({"format": ImageFormat.LUKS}, "need one"),
        ({"format": QCOW2, "cluster_size": 1000}, "clusters of 1000 bytes"),
        ({"format": RAW, "cluster_size": 65536}, "clusters of 65536 bytes"),
        ({"format": ImageFormat.VDI, "preallocation": Preallocation.FULL}, "preallocation full"),
    ],
)
def test_options_that_do_not_fit(options, message):
    """An option that a format does not have is refused before anything is touched."""
    with pytest.raises(StorageError, match=message) as caught:
        VolumePlan(pool="p", name="v", size=MIB, **options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"type": PoolType.LVM},
        {"type": PoolType.LVM, "vg": "a b"},
        {"type": PoolType.LVM, "vg": "x", "thin_pool": "t"},
        {"type": PoolType.LVM_THIN, "vg": "x"},
        {"type": PoolType.LVM_THIN, "vg": "x", "thin_pool": "a/b"},
        {"type": PoolType.DIR},
        {"path": Path("/x"), "vg": "x"},
    ],
)
def test_pools_that_cannot_be(fields):
    """A pool whose keys do not fit its type is refused with a hint."""
    with pytest.raises(StorageError) as caught:
        PoolPlan(name="p", **fields)
    assert caught.value.hint


def test_every_kind_has_a_pool():
    """Each type of pool can be made of its plan, without looking at the host."""
    plans = [
        PoolPlan(name="d", path=Path("/d")),
        PoolPlan(name="l", type=PoolType.LVM, vg="vg"),
        PoolPlan(name="t", type=PoolType.LVM_THIN, vg="vg", thin_pool="tp"),
    ]
    assert {plan.type for plan in plans} == set(PoolType)
    for plan in plans:
        pool = make_pool(plan)
        form = pool.default_format
        assert pool.volume_path("v", form) == plan.volume_path("v", form)


@pytest.mark.parametrize(
    ("limit", "size", "missing", "free", "more"),
    [
        (None, 100, 1, 1000, 10),
        (None, 100, 25, 1000, 30),
        (None, 100, 25, 27, 27),
        (None, 100, 25, 20, 0),
        (115, 100, 1, 1000, 10),
        (105, 100, 1, 1000, 5),
        (100, 100, 1, 1000, 0),
    ],
)
def test_extension(limit, size, missing, free, more):
    """What is full grows by whole steps, as far as the limit and the room allow."""
    assert decide_extension(ExtendPolicy(step=10, limit=limit), size, missing, free) == more


def test_extension_by_extents():
    """LVM rounds up to extents: a limit is kept all the same."""
    policy = ExtendPolicy(step=10, limit=115)
    assert decide_extension(policy, 100, 1, 1000, unit=4) == 12
    assert decide_extension(policy, 108, 1, 1000, unit=4) == 4
    assert decide_extension(policy, 112, 1, 1000, unit=4) == 0


def test_extension_by_nothing():
    """A policy that could never do anything is refused."""
    for fields in ({"step": 0}, {"step": 1, "limit": 0}):
        with pytest.raises(StorageError):
            ExtendPolicy(**fields)


def test_space(pools, tmp_path):
    """A dir pool tells the room of its file system, and what its volumes may grow to."""
    before = pools["p"].find_space()
    make(pools, size=1 << 40)
    space = pools["p"].find_space()
    assert space.promised - before.promised == 1 << 40
    assert 0 < space.free <= space.capacity - space.allocation
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o711


def test_a_thousand_volumes_without_a_process(pools, tmp_path, monkeypatch):
    """Listing, and finding what builds on a volume, runs no process for any of 1,000 volumes."""
    base = make(pools)
    data = link(pools, base).path.read_bytes()
    for index in range(998):
        (tmp_path / "p" / f"v{index}.qcow2").write_bytes(data)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("qorch_storage.run._SYSTEM_PATH", "")
    started = os.times()
    assert len(pools["p"].find_volumes()) == 1000
    assert len(pools.find_dependents(base.path)) == 999
    ended = os.times()
    assert ended.children_user == started.children_user
    assert ended.user + ended.system - started.user - started.system < 2


@pytest.mark.parametrize("type_", [PoolType.LVM, PoolType.LVM_THIN])
def test_lvm_that_is_not_there(tmp_path, monkeypatch, type_):
    """Without LVM, or without the volume group, a pool in it says so, and what to do."""
    thin = "tp" if type_ is PoolType.LVM_THIN else None
    pool = make_pool(PoolPlan(name="l", type=type_, vg="qorch-none", thin_pool=thin))
    plan = VolumePlan(pool="l", name="v", format=RAW, size=MIB)
    if os.geteuid() == 0:
        for look in (pool.find_space, pool.find_volumes, lambda: pool.ensure_volume(plan)):
            with pytest.raises(StorageError, match="there is no volume group qorch-none") as caught:
                look()
            assert "vgcreate" in caught.value.hint
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("qorch_storage.run._SYSTEM_PATH", "")
    for look in (pool.find_space, pool.find_volumes, lambda: pool.ensure_volume(plan)):
        with pytest.raises(StorageError, match="is not installed") as caught:
            look()
        assert caught.value.hint == "apt-get install lvm2"
