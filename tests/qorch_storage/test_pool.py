"""Volumes appear whole or not at all, whatever fails, and nothing of others is touched."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from qorch_storage.errors import StorageError
from qorch_storage.image import find_chain, find_image
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, VolumePlan
from qorch_storage.pool import DirPool

MIB = 1 << 20
RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2
STEPS = [
    "make pool directory",
    "open temporary file",
    "make image",
    "sync file",
    "publish file",
]

# A process that makes one volume: the pool's path, the format, what to do at a step, the step.
MAKER = """
import os, signal, sys
from pathlib import Path
from qorch_storage.errors import StorageError
from qorch_storage.plan import ImageFormat, VolumePlan
from qorch_storage.pool import DirPool

pool, form, at = sys.argv[1:4]

def report(step):
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)

plan = VolumePlan(pool="p", name="v", format=ImageFormat(form), size=1 << 20)
try:
    DirPool("p", Path(pool)).ensure_volume(plan, report=report)
except StorageError as error:
    print(error.message, error.hint, sep="\\nhint: ")
    sys.exit(1)
"""


def make_plan(form=QCOW2, name="v", size=MIB, **rest):
    """Plan a volume, by default a qcow2 one of 1 MiB."""
    return VolumePlan(pool="default", name=name, format=form, size=size, **rest)


def over(path, form=RAW):
    """Plan a backing file."""
    return Backing(path=path, format=form)


def files_in(pool):
    """List all names in the pool's directory; `None` if there is none."""
    return sorted(path.name for path in pool.path.iterdir()) if pool.path.exists() else None


def make_elsewhere(*args, before=()):
    """Run MAKER in a process of its own, by way of the words `before`."""
    words = [*before, sys.executable, "-c", MAKER, *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("form", [RAW, QCOW2])
def test_new_volume(pool, form, qemu_img):
    """A new volume has the format and size asked for, is sparse and private, and sound."""
    path = pool.ensure_volume(make_plan(form, size=1 << 40))
    assert path == pool.path / f"v.{form}"
    image = find_image(path)
    assert (image.format, image.virtual_size) == (form, 1 << 40)
    assert image.allocation < MIB
    assert path.stat().st_mode & 0o777 == 0o600
    assert files_in(pool) == [path.name]
    if form is QCOW2:
        qemu_img("check", "-q", "-f", "qcow2", path)


@pytest.mark.parametrize("size", [None, MIB, 2 * MIB])
def test_overlay(pool, base, size, query):
    """An overlay names its backing file absolutely and with its format, and takes its size."""
    before = base.read_bytes(), base.stat().st_mtime_ns
    path = pool.ensure_volume(make_plan(size=size, backing=over(base)))
    info = query(path)
    assert info["virtual-size"] == size or MIB
    assert info["backing-filename"] == str(base)
    assert info["backing-filename-format"] == "raw"
    assert (base.read_bytes(), base.stat().st_mtime_ns) == before


def test_names_with_everything_in_them(tmp_path, base):
    """Commas, colons, spaces and quotes in paths mean nothing to anybody."""
    pool = DirPool("p", tmp_path / "a:b,c 'd' $e")
    pool.path.mkdir()
    odd = base.rename(pool.path / "x:y,backing_fmt=qcow2 ü.raw")
    path = pool.ensure_volume(make_plan(name="n:m,o=p q", backing=over(odd)))
    assert [link.path for link in find_chain(path)] == [path, odd]


def test_relative_pool(tmp_path, monkeypatch, base):
    """A pool given by a relative path with a colon works, and overlays in it hold."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    pool = DirPool("p", (tmp_path / "a:b" / "pool").relative_to(tmp_path))
    path = pool.ensure_volume(make_plan(backing=over(base.relative_to(tmp_path))))
    monkeypatch.chdir("/")
    assert len(find_chain(tmp_path / path)) == 2


def test_from_plan(tmp_path):
    """A pool and its plan agree where a volume lies."""
    plan = PoolPlan(name="p", path=tmp_path)
    assert DirPool.from_plan(plan).volume_path("v", QCOW2) == plan.volume_path("v", QCOW2)


@pytest.mark.parametrize("form", [RAW, QCOW2])
def test_existing_volume_is_left_alone(pool, form):
    """Asking again changes not a byte, takes no step and runs no program."""
    path = pool.ensure_volume(make_plan(form))
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino
    steps = []
    assert pool.ensure_volume(make_plan(form), report=steps.append) == path
    assert pool.ensure_volume(make_plan(form, size=512)) == path  # it may have grown since
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert steps == []


def test_existing_volume_that_differs(pool, base):
    """A volume that is not as planned is left alone, and the error says what differs."""
    other = base.with_name("other.raw")
    other.write_bytes(base.read_bytes())
    path = pool.ensure_volume(make_plan(backing=over(base)))
    before = path.read_bytes()
    for plan, difference in (
        (make_plan(size=2 * MIB, backing=over(base)), f"it has {MIB} bytes, not {2 * MIB}"),
        (make_plan(backing=over(other)), f"builds on {base} \\(raw\\), not on {other}"),
        (make_plan(backing=None), f"builds on {base} \\(raw\\), not on nothing"),
    ):
        with pytest.raises(StorageError, match=difference) as caught:
            pool.ensure_volume(plan)
        assert caught.value.hint
    assert path.read_bytes() == before


def test_existing_file_of_another_format(pool, base):
    """A raw file under a qcow2 volume's name is refused, not overwritten."""
    pool.path.mkdir()
    base.rename(pool.path / "v.qcow2")
    with pytest.raises(StorageError, match="is not a qcow2 image"):
        pool.ensure_volume(make_plan())
    assert (pool.path / "v.qcow2").read_bytes()[:4] == b"base"


def test_existing_overlay_without_its_base(pool, base):
    """An overlay whose backing file is gone is an error before a machine needs it."""
    plan = make_plan(backing=over(base))
    pool.ensure_volume(plan)
    base.unlink()
    with pytest.raises(StorageError, match=r"base\.raw \(backing file of .*\) does not exist"):
        pool.ensure_volume(plan)


def test_same_backing_by_another_path(pool, base):
    """A backing file reached through a link is the same backing file."""
    link = base.with_name("link.raw")
    link.symlink_to(base)
    path = pool.ensure_volume(make_plan(backing=over(base)))
    assert pool.ensure_volume(make_plan(backing=over(link))) == path


@pytest.mark.parametrize("size", [512, MIB - 512])
def test_smaller_than_its_base(pool, base, size):
    """An overlay that would cut off its backing file is refused before anything is made."""
    with pytest.raises(StorageError, match="less than its backing file"):
        pool.ensure_volume(make_plan(size=size, backing=over(base)))
    assert files_in(pool) is None


def test_bad_backing(pool, base, tmp_path):
    """A missing, empty or otherwise formatted backing file is refused; nothing is made."""
    empty = tmp_path / "empty.raw"
    empty.touch()
    for backing, problem in (
        (over(tmp_path / "gone.raw"), "does not exist"),
        (over(empty), "is empty"),
        (over(base, QCOW2), "is not a qcow2 image"),
        (over(tmp_path), "neither a file nor a block device"),
    ):
        with pytest.raises(StorageError, match=problem):
            pool.ensure_volume(make_plan(size=None, backing=backing))
    assert files_in(pool) is None


def test_path_too_long_for_a_header(pool, tmp_path):
    """A backing path that does not fit into the overlay's header is refused by name."""
    deep = tmp_path.joinpath(*["d" * 200] * 5)
    deep.mkdir(parents=True)
    (deep / "b.raw").write_bytes(b"x" * 512)
    with pytest.raises(StorageError, match="longer than 1023 bytes"):
        pool.ensure_volume(make_plan(backing=over(deep / "b.raw")))


@pytest.mark.parametrize("form", [ImageFormat.VMDK, ImageFormat.VDI, ImageFormat.QED])
def test_other_formats(pool, form, query):
    """Volumes of the formats of others are made as QEMU writes them."""
    path = pool.ensure_volume(make_plan(form))
    assert query(path, form)["virtual-size"] == MIB
    assert files_in(pool) == [path.name]
    assert pool.ensure_volume(make_plan(form)) == path


@pytest.mark.parametrize("form", [RAW, QCOW2])
def test_steps(pool, form):
    """Every step that touches the host is announced, in order."""
    steps = []
    pool.ensure_volume(make_plan(form), report=steps.append)
    assert steps == STEPS


@pytest.mark.parametrize("form", [RAW, QCOW2])
@pytest.mark.parametrize("failing", STEPS)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_at_each_step(pool, form, failing, error):
    """A failure at any step leaves the host as it was, and the retry works."""

    def fail(step):
        if step == failing:
            raise error

    with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
        pool.ensure_volume(make_plan(form), report=fail)
    assert files_in(pool) is None
    pool.ensure_volume(make_plan(form))
    assert files_in(pool) == [f"v.{form}"]


@pytest.mark.parametrize("failing", STEPS[1:])
def test_failure_beside_other_files(pool, failing):
    """A failure leaves a directory that was there, and all that is in it."""
    pool.path.mkdir()
    (pool.path / "mine.txt").write_text("hello")

    def fail(step):
        if step == failing:
            raise OSError(5, "Input/output error")

    with pytest.raises(StorageError, match=r"cannot make volume .*: Input/output error"):
        pool.ensure_volume(make_plan(), report=fail)
    assert files_in(pool) == ["mine.txt"]


@pytest.mark.parametrize("form", [RAW, QCOW2])
@pytest.mark.parametrize("step", STEPS)
def test_kill_at_each_step(pool, form, step, qemu_img):
    """Killed at any step, no half-made volume is seen, and the retry leaves nothing else."""
    assert make_elsewhere(pool.path, form, step).returncode == -signal.SIGKILL
    assert pool.find_volumes() == ()
    path = pool.ensure_volume(make_plan(form))
    assert files_in(pool) == [path.name]
    assert find_image(path).virtual_size == MIB


@pytest.fixture
def stuck_qemu_img(tmp_path, monkeypatch):
    """A qemu-img that writes half an image, says its pid, and waits until it is let go."""
    said, go = tmp_path / "said", tmp_path / "go"
    os.mkfifo(said)
    os.mkfifo(go)
    program = tmp_path / "bin" / "qemu-img"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nfor word; do file=$last; last=$word; done\necho half > "$file"\n'
        f"exec 9>{said}\necho $$ >&9\nread x < {go}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return said, go


def test_kill_while_qemu_img_runs(pool, stuck_qemu_img, monkeypatch):
    """A qemu-img that survives its parent keeps its file until it ends; then it is cleaned."""
    said, go = stuck_qemu_img
    words = [sys.executable, "-c", MAKER, str(pool.path), "qcow2", "never"]
    with subprocess.Popen(words) as maker, said.open() as words_of_child:
        child = os.pidfd_open(int(words_of_child.readline()))
        maker.kill()
    assert pool.find_volumes() == ()
    assert pool.remove_stale() == ()
    pool.ensure_volume(make_plan(RAW, name="meanwhile"))
    assert len(files_in(pool)) == 2
    go.write_text("\n")
    select.select([child], [], [])
    os.close(child)
    assert len(pool.remove_stale()) == 1
    assert pool.remove_stale() == ()
    assert files_in(pool) == ["meanwhile.raw"]


def test_stale_files_of_no_pool(pool):
    """A pool without a directory has nothing stale, and is not made for that."""
    assert pool.remove_stale() == ()
    assert files_in(pool) is None


def test_only_our_temporary_files_are_stale(pool):
    """Cleaning takes temporary files of ours and nothing else, hidden or not."""
    pool.path.mkdir()
    others = [".hidden", "qorch-tmp-x", "x.qorch-tmp-", ".qorch"]
    for name in others:
        (pool.path / name).touch()
    (pool.path / ".qorch-tmp-dead").touch()
    assert pool.remove_stale() == (pool.path / ".qorch-tmp-dead",)
    assert files_in(pool) == sorted(others)
    (pool.path / ".hidden").unlink()
    (pool.path / ".qorch").unlink()


def test_many_at_once(pool, base):
    """Threads that make the same volume and others all succeed, and nothing is left."""
    plans = [make_plan(name=f"v{index % 4}", backing=over(base)) for index in range(16)]
    with ThreadPoolExecutor(16) as threads:
        paths = list(threads.map(pool.ensure_volume, plans))
    assert files_in(pool) == sorted({path.name for path in paths})
    assert len(set(paths)) == 4


def test_missing_qemu_img(pool, monkeypatch, tmp_path):
    """Without qemu-img a qcow2 volume is an error with the package's name; a raw one works."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="not installed") as caught:
        pool.ensure_volume(make_plan())
    assert "qemu-utils" in caught.value.hint
    assert files_in(pool) is None
    pool.ensure_volume(make_plan(RAW))


@pytest.mark.parametrize("form", [RAW, QCOW2])
def test_bad_directories(tmp_path, form):
    """A parent that is missing, or a file where the directory should be, is one clear error."""
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "gone" / "pool", "No such file or directory"),
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "file" / "pool", "Not a directory"),
        (tmp_path / ("x" * 256), "File name too long"),
    ):
        with pytest.raises(StorageError, match=reason) as caught:
            DirPool("p", path).ensure_volume(make_plan(form))
        assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_not_allowed(pool):
    """A directory that may not be written is one clear error, and stays as it is."""
    pool.path.mkdir(0o555)
    powers = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]
    for form in (RAW, QCOW2):
        made = make_elsewhere(pool.path, form, "never", before=drop if os.geteuid() == 0 else [])
        assert made.returncode == 1, made.stderr
        assert re.search(r"cannot make volume .*: Permission denied\nhint: run as", made.stdout)
    assert files_in(pool) == []


@pytest.fixture
def on_small_disk(tmp_path):
    """Run MAKER with the pool on a tmpfs of its own, and list what is left there."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def make(options, form, then="true", before=""):
        script = (
            f"mount -t tmpfs -o {options} none {disk} && mkdir {disk}/pool && {then} || exit 99\n"
            f'{before} "$@"; status=$?; find {disk} -mindepth 1; exit $status'
        )
        enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", disk], check=False).returncode:
            pytest.skip("no mount namespaces here")
        return make_elsewhere(
            disk / "pool", form, "never", before=[*enter, "sh", "-c", script, "sh"]
        ), f"{disk}/pool\n"

    return make


@pytest.mark.parametrize(
    ("form", "options"), [(QCOW2, "size=64k"), (QCOW2, "nr_inodes=3"), (RAW, "nr_inodes=3")]
)
def test_full_disk(on_small_disk, form, options):
    """On a disk without blocks or inodes left there is one clear error, and nothing is left."""
    made, empty = on_small_disk(options, form)
    assert made.returncode == 1, (made.stdout, made.stderr)
    assert "No space left on device" in made.stdout
    assert re.search("^hint: .*(space|inodes)", made.stdout, re.MULTILINE)
    assert made.stdout.endswith(f"\n{empty}")


def test_disk_that_fits(on_small_disk):
    """The same disk with room makes the volume: the error above is about room."""
    made, empty = on_small_disk("size=8m", QCOW2)
    assert (made.returncode, made.stdout) == (0, empty + empty.strip() + "/v.qcow2\n")


@pytest.mark.parametrize("form", [RAW, QCOW2])
def test_read_only_disk(on_small_disk, form, tmp_path):
    """On a read-only file system there is one clear error with a hint."""
    made, empty = on_small_disk("size=8m", form, then=f"mount -o remount,ro {tmp_path}/disk")
    assert made.returncode == 1, (made.stdout, made.stderr)
    assert "Read-only file system\nhint: " in made.stdout
    assert made.stdout.endswith(f"\n{empty}")


def test_file_too_large(on_small_disk):
    """A size that the file system or a limit forbids is one clear error."""
    made, empty = on_small_disk("size=8m", RAW, before="ulimit -f 1; trap '' XFSZ;")
    assert made.returncode == 1, (made.stdout, made.stderr)
    assert "File too large\nhint: " in made.stdout
    assert made.stdout.endswith(f"\n{empty}")


def test_remove(pool, base):
    """Removing takes the named volume only, and may be repeated."""
    path = pool.ensure_volume(make_plan(backing=over(base)))
    pool.ensure_volume(make_plan(RAW))
    steps = []
    assert pool.remove_volume("v", QCOW2, report=steps.append)
    assert not path.exists()
    assert base.exists()
    assert not pool.remove_volume("v", QCOW2, report=steps.append)
    assert steps == ["remove volume"]
    assert files_in(pool) == ["v.raw"]


def test_remove_without_a_pool(pool):
    """In a pool without a directory there is nothing to remove."""
    assert not pool.remove_volume("v", QCOW2)


@pytest.mark.parametrize("name", ["../base", ".x", "", "a/b"])
def test_remove_only_inside(pool, base, name):
    """No name leads to a file outside of the pool."""
    pool.path.mkdir()
    with pytest.raises(StorageError, match="is not a volume name"):
        pool.remove_volume(name, RAW)
    assert base.exists()


def test_remove_refused(pool):
    """What cannot be removed is one clear error."""
    (pool.path / "v.raw").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot remove volume .*: Is a directory"):
        pool.remove_volume("v", RAW)


def test_list(pool, base, qemu_img, monkeypatch, tmp_path):
    """A pool lists its volumes and what others put there, runs nothing, and trusts nothing."""
    assert pool.find_volumes() == ()
    pool.ensure_volume(make_plan(name="a", backing=over(base)))
    pool.ensure_volume(make_plan(RAW, name="b"))
    qemu_img("create", "-q", "-f", "vdi", pool.path / "c.vdi", "1M")
    (pool.path / "d.qcow2").write_bytes(b"QFI\xfb" + b"\xff" * 200)
    (pool.path / "e.img").write_bytes((pool.path / "a.qcow2").read_bytes())
    (pool.path / "f").mkdir()
    (pool.path / "g.raw").symlink_to("g.raw")
    (pool.path / "h.raw").symlink_to("nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {volume.name: volume for volume in pool.find_volumes()}
    assert list(found) == ["a.qcow2", "b.raw", "c.vdi", "d.qcow2", "e.img"]
    assert found["a.qcow2"].image.backing_file == str(base)
    assert found["b.raw"].image.virtual_size == MIB
    assert (found["c.vdi"].format, found["c.vdi"].image.virtual_size) == (ImageFormat.VDI, MIB)
    assert "version" in found["d.qcow2"].problem
    assert found["e.img"].format is QCOW2


def test_list_of_no_directory(base):
    """A pool whose path is a file cannot be listed, and says so."""
    with pytest.raises(StorageError, match="cannot list pool p: Not a directory"):
        DirPool("p", base).find_volumes()


def test_a_thousand_volumes(pool):
    """A thousand volumes are listed in far less than a second's work."""
    data = pool.ensure_volume(make_plan()).read_bytes()
    for index in range(1000):
        (pool.path / f"v{index}.qcow2").write_bytes(data)
    started = os.times()
    assert len(pool.find_volumes()) == 1001
    ended = os.times()
    assert ended.user + ended.system - started.user - started.system < 1


def test_volume_made_by_another_meanwhile(pool):
    """Losing the race for a name ends in the winner's volume if it is as planned."""

    def win(step):
        if step == "publish file":
            (pool.path / "v.raw").write_bytes(b"winner".ljust(MIB))

    path = pool.ensure_volume(make_plan(RAW), report=win)
    assert path.read_bytes().startswith(b"winner")
    with pytest.raises(StorageError, match="differs"):
        pool.ensure_volume(attrs.evolve(make_plan(RAW), size=2 * MIB))
