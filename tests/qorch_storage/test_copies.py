"""Copies are whole and identical, in every format; whatever fails or is killed leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import storage_verbs
from storage_verbs import NEW, ORIGIN, run_elsewhere

from qorch_storage.copies import (
    Copy,
    Mode,
    clone_volume,
    export_volume,
    import_image,
    open_export,
    open_import,
    write_piece,
)
from qorch_storage.errors import StorageError
from qorch_storage.image import find_image
from qorch_storage.plan import ImageFormat, PoolPlan, VolumePlan
from qorch_storage.pools import Pools
from qorch_storage.qemu_img import Source
from qorch_storage.volumes import check_volume, create_volume

MIB = 1 << 20
RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2
FORMATS = [RAW, QCOW2, ImageFormat.VMDK, ImageFormat.VDI, ImageFormat.QED]


@pytest.fixture
def plan(tmp_path):
    """A dir pool's plan."""
    return PoolPlan(name="p", path=tmp_path / "pool")


@pytest.fixture
def pools(plan):
    """One pool; no hidden file may be left in it."""
    pools = Pools.from_plans([plan])
    yield pools
    assert list(plan.path.glob(".*")) == []


@pytest.fixture
def content(tmp_path):
    """A raw image of 8 MiB with data, zeroes and holes."""
    path = tmp_path / "content.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        for at in (0, 65536 * 3 + 512, 5 * MIB, 8 * MIB - 512):
            file.seek(at)
            file.write(os.urandom(512) * (8 if at < 6 * MIB else 1))
    return path


@pytest.fixture
def origin(pools, content):
    """A qcow2 volume with that content."""
    import_image(pools, Source(path=content, format=RAW), Copy(pool="p", name=ORIGIN, format=QCOW2))
    return pools.find_volume("p", ORIGIN)


def compare(qemu_img, content, path, form):
    """An image that is not the same is an error."""
    qemu_img("compare", "-q", "-f", "raw", "-F", form, content, path)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_every_format_into_every_other(pools, content, qemu_img, form, target):
    """A volume converted between any two formats has the same content."""
    import_image(pools, Source(path=content, format=RAW), Copy(pool="p", name="a", format=form))
    volume = pools.find_volume("p", f"a.{form}")
    path = clone_volume(pools, volume, Copy(pool="p", name="b", format=target))
    compare(qemu_img, content, volume.path, form)
    compare(qemu_img, content, path, target)
    assert find_image(path, target).allocation < 4 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("target", [QCOW2, ImageFormat.LUKS])
def test_encryption(pools, content, origin, qemu_img, tmp_path, target):
    """An encrypted copy shows nothing without its passphrase, which no process is told in words."""
    key = tmp_path / "key,with=comma"
    key.write_bytes(b"secret words")
    copy = Copy(pool="p", name="locked", format=target, passphrase_file=key)
    path = clone_volume(pools, origin, copy)
    assert content.read_bytes()[:512] not in path.read_bytes()
    volume = pools.find_volume("p", "locked")
    with pytest.raises(StorageError, match="is encrypted"):
        clone_volume(pools, volume, Copy(pool="p", name="open", format=RAW))
    back = clone_volume(pools, volume, Copy(pool="p", name="open", format=RAW), passphrase_file=key)
    compare(qemu_img, content, back, RAW)


@pytest.mark.slow
def test_encrypted_volume_of_the_start(pools, tmp_path):
    """An empty volume is encrypted, too, and a missing passphrase is one clear error."""
    key = tmp_path / "key"
    plan = VolumePlan(pool="p", name="v", format=QCOW2, size=MIB, passphrase_file=key)
    with pytest.raises(StorageError, match="cannot read the passphrase"):
        create_volume(pools, plan)
    key.touch()
    with pytest.raises(StorageError, match="is empty"):
        create_volume(pools, plan)
    key.write_text("words")
    assert find_image(create_volume(pools, plan)).encrypted


def test_options_of_qcow2(pools, content, query):
    """Cluster size, compression and lazy reference counts are as they were asked for."""
    copy = Copy(
        pool="p",
        name="v",
        format=QCOW2,
        cluster_size=1 << 20,
        compression="zstd",
        lazy_refcounts=True,
        compress=True,
    )
    path = import_image(pools, Source(path=content, format=RAW), copy)
    info = query(path)
    assert info["cluster-size"] == 1 << 20
    data = info["format-specific"]["data"]
    assert (data["compression-type"], data["lazy-refcounts"]) == ("zstd", True)


@pytest.mark.parametrize("form", FORMATS)
def test_export_and_import(pools, origin, content, qemu_img, tmp_path, form):
    """What is exported can be imported again; the file appears when it is whole."""
    path = tmp_path / f"export.{form}"
    export_volume(pools, origin, path, form)
    compare(qemu_img, content, path, form)
    with pytest.raises(StorageError, match="exists already"):
        export_volume(pools, origin, path, form)
    again = import_image(pools, Source(path=path, format=form), Copy(pool="p", name="again"))
    compare(qemu_img, content, again, form)
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("piece", [1000, 1 << 16, 1 << 22])
def test_streams(pools, origin, content, qemu_img, tmp_path, piece):
    """An image that comes and goes in pieces is the same, and holes in it stay."""
    with open_export(pools, origin, tmp_path, RAW) as fd, open_import(tmp_path) as new:
        at = 0
        while data := os.read(fd, piece):
            at = write_piece(new.fd, data, at)
        os.ftruncate(new.fd, at)
        assert os.fstat(new.fd).st_blocks * 512 < MIB
        path = import_image(pools, Source(path=new.path, format=RAW), Copy(pool="p", name="s"))
    compare(qemu_img, content, path, RAW)
    assert list(tmp_path.glob(".*")) == []


def test_linked_clone(pools, origin, content, qemu_img):
    """An overlay has its origin's content and explicit format, and takes next to no room."""
    path = clone_volume(pools, origin, Copy(pool="p", name=NEW), mode=Mode.LINKED)
    compare(qemu_img, content, path, QCOW2)
    image = find_image(path)
    assert (image.backing_file, image.backing_format) == (str(origin.path), "qcow2")
    flat = clone_volume(pools, pools.find_volume("p", NEW), Copy(pool="p", name="flat"))
    assert find_image(flat).backing_file is None
    compare(qemu_img, content, flat, QCOW2)


def test_progress(pools, origin):
    """A copy says how far it is, up to the end."""
    told = []
    clone_volume(pools, origin, Copy(pool="p", name=NEW), on_percent=told.append)
    assert told[-1] == 100
    assert told == sorted(told)


@pytest.mark.parametrize("damage", ["corrupt", "header", "outside", "missing"])
def test_malicious_images(pools, content, qemu_img, tmp_path, damage):
    """An image that is damaged or shows a file of the host is refused; nothing is made."""
    path = tmp_path / "evil.qcow2"
    backing = tmp_path / "outside.raw"
    backing.write_bytes(b"secret of the host".ljust(512))
    over = ["-b", backing, "-F", "raw"] if damage in {"outside", "missing"} else []
    qemu_img("create", "-q", "-f", "qcow2", *over, path, "8M")
    if damage == "missing":
        backing.unlink()
    with path.open("r+b") as file:
        if damage == "corrupt":
            file.seek(72)
            file.write((2).to_bytes(8))
        if damage == "header":
            file.write(b"QFI\xfb" + b"\xff" * 90)
    words = {
        "corrupt": "is marked as corrupt",
        "header": "is not a usable qcow2 image",
        "outside": "lies in no pool",
        "missing": "does not exist",
    }
    with pytest.raises(StorageError, match=words[damage]) as caught:
        import_image(pools, Source(path=path, format=QCOW2), Copy(pool="p", name="v"))
    assert caught.value.hint
    assert pools["p"].find_volumes() == ()


def test_absurd_size(pools, qemu_img, tmp_path):
    """A header that claims a pebibyte in a small file is refused, whatever it would lead to."""
    path = tmp_path / "evil.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    with path.open("r+b") as file:
        file.seek(24)
        file.write((1 << 50).to_bytes(8))
        file.seek(36)
        file.write((1 << 22).to_bytes(4))
    with pytest.raises(StorageError, match="L1 table lies outside of the file"):
        import_image(pools, Source(path=path, format=QCOW2), Copy(pool="p", name="v"))
    assert pools["p"].find_volumes() == ()


def test_names_that_are_taken(pools, origin):
    """A copy never replaces a volume."""
    before = origin.path.read_bytes()
    for mode in (Mode.FULL, Mode.LINKED):
        with pytest.raises(StorageError, match="exists already"):
            clone_volume(pools, origin, Copy(pool="p", name=ORIGIN, format=QCOW2), mode=mode)
    assert origin.path.read_bytes() == before


def test_no_room(tmp_path, content):
    """On a full disk there is one error that says how many bytes are missing; nothing is left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    script = f'mount -t tmpfs -o size=1m none {disk} && exec "$@"'
    content.write_bytes(os.urandom(4 * MIB))
    words = [sys.executable, "-c", FILL, content, disk / "pool"]
    done = subprocess.run(
        [*enter, "sh", "-c", script, "sh", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    message, hint, left = done.stdout.splitlines()
    assert message.startswith("pool p is full: 4")
    assert message.endswith("are missing")
    assert "make space" in hint
    assert left == "[]"


FILL = """
import sys
from pathlib import Path
from qorch_storage.copies import Copy, import_image
from qorch_storage.errors import StorageError
from qorch_storage.plan import ImageFormat, PoolPlan
from qorch_storage.pools import Pools
from qorch_storage.qemu_img import Source

content, directory = map(Path, sys.argv[1:])
pools = Pools.from_plans([PoolPlan(name="p", path=directory)])
try:
    source = Source(path=content, format=ImageFormat.RAW)
    import_image(pools, source, Copy(pool="p", name="v", format=ImageFormat.QCOW2))
except StorageError as error:
    print(error.message, error.hint, list(directory.parent.rglob("*")), sep="\\n")
"""

STEPS = {
    "create": ["open temporary file", "make image", "sync file", "publish file"],
    "clone": ["open temporary file", "copy data", "sync file", "publish file"],
    "link": ["open temporary file", "make image", "sync file", "publish file"],
    "import_": ["open temporary file", "copy data", "sync file", "publish file"],
    "export": ["open temporary file", "copy data", "sync file", "publish file"],
    "resize": ["resize volume"],
    "rename": ["rename volume"],
    "wipe": ["hide volume", "wipe volume"],
    "remove": ["remove volume"],
}


@pytest.mark.parametrize(("verb", "step"), [(v, s) for v, steps in STEPS.items() for s in steps])
def test_kill_at_each_step(plan, pools, origin, content, qemu_img, tmp_path, verb, step):
    """Killed at any step, no half-made volume is seen; the next start cleans up, a retry works."""
    export_to = tmp_path / "export.qcow2"
    killed = run_elsewhere([plan], "p", verb, step, export_to=export_to)
    assert killed.status == -signal.SIGKILL
    names = [volume.name for volume in pools["p"].find_volumes()]
    assert names in ([f"{ORIGIN}.qcow2"], [] if step == "wipe volume" else [f"{ORIGIN}.qcow2"])
    if names:
        compare(qemu_img, content, origin.path, QCOW2)
        assert check_volume(pools.find_volume("p", ORIGIN)).clean
    assert not export_to.exists()
    pools["p"].remove_stale()
    assert list(plan.path.glob(".*")) == []
    if not names:
        return  # what was being wiped is gone: that was finished
    done = run_elsewhere([plan], "p", verb, export_to=export_to)
    assert done.status == 0
    assert done.steps == STEPS[verb]
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("verb", STEPS)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_at_each_step(pools, origin, content, qemu_img, tmp_path, monkeypatch, verb, error):
    """A failure at any step leaves all as it was, but for a volume whose wiping had begun."""
    monkeypatch.setenv("EXPORT", str(tmp_path / "export.qcow2"))
    for failing in STEPS[verb]:
        if failing == "wipe volume":
            continue

        def fail(step, failing=failing):
            if step == failing:
                raise error

        with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
            storage_verbs.VERBS[verb](pools, "p", fail)
        assert [volume.name for volume in pools["p"].find_volumes()] == [origin.name]
        compare(qemu_img, content, origin.path, QCOW2)
        assert not (tmp_path / "export.qcow2").exists()
