"""The parts of scripts/guest that need neither a package nor a virtual machine."""

import os
import signal
import stat
import struct
import subprocess
import sys
import uuid
import zlib
from pathlib import Path

import pytest
from guests import apt, bios, cache, debian, disk_image, gpt, tiny
from guests.cpio import Archive
from guests.kernel import Kernel, find_dependencies, module_name, sort_modules

SCRIPTS = Path(__file__).parents[2] / "scripts"


def read_cpio(data):
    """Read a newc archive: name → (mode, content, device)."""
    entries = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        _, mode, uid, gid, _, mtime, size, _, _, major, minor, name_size, _ = fields
        name_end = at + 110 + name_size
        name = data[at + 110 : name_end - 1].decode()
        start = (name_end + 3) & ~3
        at = (start + size + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        assert (uid, gid, mtime) == (0, 0, 0)
        assert name not in entries
        entries[name] = (mode, data[start : start + size], (major, minor))


def make_module(*, depends="", softdep=""):
    """Make what a module's .modinfo section looks like."""
    info = f"\0license=GPL\0depends={depends}\0"
    return (info + (f"softdep=pre: {softdep}\0" if softdep else "") + "name=x\0").encode()


def make_kernel(modules, builtin=()):
    """Make a kernel with those modules."""
    return Kernel(vmlinuz=b"kernel", modules=modules, builtin=frozenset(builtin))


def make_guest(tmp_path, build, name="toy"):
    """Make a kind of guest with one source file."""
    source = tmp_path / "source"
    if not source.exists():
        source.write_text("one")
    return cache.Guest(name=name, inputs=(source,), build=build)


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """Take file names in hashes relative to a temporary directory."""
    monkeypatch.setattr(cache, "SOURCES", tmp_path)
    return tmp_path


# cpio


def test_cpio_holds_what_was_added():
    """Files, links, nodes and the directories they need come out as they went in."""
    archive = Archive()
    archive.add_file("etc/deep/name", b"content", 0o600)
    archive.add_symlink("sbin", "bin")
    archive.add_character_device("dev/null", 1, 3, mode=0o666)
    entries = read_cpio(archive.finish())
    assert list(entries) == ["etc", "etc/deep", "etc/deep/name", "sbin", "dev", "dev/null"]
    assert entries["etc/deep/name"][:2] == (stat.S_IFREG | 0o600, b"content")
    assert entries["etc"][0] == stat.S_IFDIR | 0o755
    assert entries["sbin"][:2] == (stat.S_IFLNK | 0o777, b"bin")
    assert entries["dev/null"] == (stat.S_IFCHR | 0o666, b"", (1, 3))


@pytest.mark.parametrize("size", range(6))
def test_cpio_is_aligned(size):
    """Whatever the sizes of names and files, the next entry starts on four bytes."""
    archive = Archive()
    archive.add_file("n" * (size + 1), b"x" * size)
    archive.add_file("next", b"y")
    data = archive.finish()
    assert len(data) % 512 == 0
    assert read_cpio(data)["next"][1] == b"y"


def test_cpio_refuses_a_second_entry_of_a_name():
    """A file is never added twice, which the kernel would take without a word."""
    archive = Archive()
    archive.add_file("a", b"")
    with pytest.raises(ValueError, match="a is in the archive already"):
        archive.add_file("a", b"")


# Kernel modules


def test_modules_come_after_what_they_need():
    """A module is loaded after its dependencies, each once, however they are spelled."""
    modules = {
        "virtio": make_module(depends="virtio_ring"),
        "virtio_ring": make_module(),
        "virtio_net": make_module(depends="virtio,net-failover,virtio_ring"),
        "net_failover": make_module(depends="failover"),
        "failover": make_module(),
    }
    order = sort_modules(make_kernel(modules), ["virtio_net", "virtio"])
    assert order == ["virtio_ring", "virtio", "failover", "net_failover", "virtio_net"]


def test_builtin_modules_are_not_loaded():
    """What the kernel has built in is neither loaded nor missed."""
    modules = {"a": make_module(depends="b")}
    assert sort_modules(make_kernel(modules, builtin=["b", "c"]), ["a", "c"]) == ["a"]


def test_soft_dependencies_may_be_missing():
    """A softdep goes first if the kernel has it, and is no error if not."""
    modules = {"a": make_module(softdep="crc32 absent"), "crc32": make_module()}
    assert sort_modules(make_kernel(modules), ["a"]) == ["crc32", "a"]


def test_missing_module_is_named():
    """The error says which module is missing and which one needs it."""
    modules = {"a": make_module(depends="gone")}
    with pytest.raises(cache.BuildError, match="no module gone, needed by a"):
        sort_modules(make_kernel(modules), ["a"])


def test_module_names():
    """Modules go by the names that lsmod shows."""
    assert module_name("lib/modules/6.1.0/kernel/drivers/char/hw_random/virtio-rng.ko") == (
        "virtio_rng"
    )
    assert find_dependencies(make_module(depends="scsi-mod,cdrom")) == ["scsi_mod", "cdrom"]
    assert find_dependencies(make_module()) == []


# Initramfs


@pytest.fixture
def toy_initramfs(monkeypatch):
    """Make the initramfs from a kernel whose modules are empty."""
    monkeypatch.setattr(tiny, "find_applets", lambda _: ["sh", "busybox", "ls"])
    modules = {name: make_module() for name in tiny.MODULES}
    return lambda: tiny.make_initramfs(make_kernel(modules), b"busybox")


def test_initramfs_is_the_same_again(toy_initramfs):
    """The same packages give the same initramfs, byte for byte."""
    assert toy_initramfs() == toy_initramfs()


def test_initramfs_has_what_the_kernel_starts(toy_initramfs):
    """init, the console, the scripts and the modules in their order are there."""
    entries = read_cpio(toy_initramfs())
    assert entries["init"][:2] == (stat.S_IFLNK | 0o777, b"bin/busybox")
    assert entries["bin/ls"][1] == b"busybox"
    assert entries["dev/console"][2] == (5, 1)
    assert entries["lib/modules/order"][1].decode().split() == list(tiny.MODULES)
    for script in ("etc/start", "bin/guest-shell", "bin/guest-uevent", "www/cgi-bin/index.cgi"):
        assert entries[script][0] == stat.S_IFREG | 0o755
        assert entries[script][1].startswith(b"#!/bin/sh\n")


def test_guest_scripts_are_valid_shell():
    """Every script that goes into a guest parses."""
    scripts = [path for path in cache.FILES.rglob("*") if path.is_file()]
    scripts = [path for path in scripts if path.read_bytes().startswith(b"#!/bin/sh")]
    assert len(scripts) >= 8
    for script in scripts:
        subprocess.run(["sh", "-n", script], check=True)


# Partition table and boot loaders


def make_disk(sectors, partitions):
    """Write a partition table to a disk in memory."""
    disk = bytearray(sectors * gpt.SECTOR)
    for offset, data in gpt.make_gpt(sectors, partitions).items():
        disk[offset : offset + len(data)] = data
    return bytes(disk)


ROOT = gpt.Partition(type=gpt.LINUX, name="root", start=2048, size=1024)


def read_header(disk, sector):
    """Read a GPT header and check its checksum."""
    at = sector * gpt.SECTOR
    layout = struct.Struct("<8sIIIIQQQQ16sQIII")
    fields = list(layout.unpack_from(disk, at))
    checksum, fields[3] = fields[3], 0
    assert zlib.crc32(layout.pack(*fields)) == checksum
    return fields


def test_gpt_headers_agree():
    """Both headers have right checksums and point at themselves, each other and their tables."""
    disk = make_disk(4096, {1: ROOT})
    first, second = read_header(disk, 1), read_header(disk, 4095)
    assert first[0] == second[0] == b"EFI PART"
    assert (first[5], first[6], first[10]) == (1, 4095, 2)
    assert (second[5], second[6], second[10]) == (4095, 1, 4063)
    assert first[7:10] == second[7:10]
    assert disk[510:512] == b"\x55\xaa"
    for header in (first, second):
        at = header[10] * gpt.SECTOR
        assert zlib.crc32(disk[at : at + 128 * 128]) == header[13]


def test_gpt_entry_stands_at_its_number():
    """A partition's entry has its number, type, first and last sector, and name."""
    disk = make_disk(4096, {14: ROOT})
    entry = disk[2 * gpt.SECTOR + 13 * 128 :][:128]
    assert uuid.UUID(bytes_le=entry[:16]) == gpt.LINUX
    assert struct.unpack_from("<QQ", entry, 32) == (2048, 3071)
    assert entry[56:].decode("utf-16le").rstrip("\0") == "root"


@pytest.mark.parametrize(("start", "size"), [(33, 10), (3000, 100), (4000, 64)])
def test_gpt_refuses_what_does_not_fit(start, size):
    """Partitions that overlap each other or the tables are refused."""
    other = gpt.Partition(type=gpt.LINUX, name="other", start=start, size=size)
    with pytest.raises(ValueError, match="overlaps something or does not fit"):
        gpt.make_gpt(4096, {1: ROOT, 2: other})


def test_disk_layout_fits():
    """The Debian guest's own partitions are a valid table; the root file system is last."""
    partitions = {1: disk_image.ROOT, 14: disk_image.BIOS_BOOT, 15: disk_image.ESP}
    assert gpt.make_gpt(disk_image.SECTORS, partitions)
    assert disk_image.ROOT.start == max(partition.start for partition in partitions.values())


def test_grub_is_told_where_it_lies():
    """boot.img points at core.img, core.img at its own second sector, and nothing else changes."""
    boot = disk_image.patch_boot_img(bytes(512))
    assert len(boot) == 440  # the disk's signature and partition table follow
    assert struct.unpack_from("<Q", boot, 0x5C) == (disk_image.BIOS_BOOT.start,)
    core = disk_image.patch_core_img(bytes(2048))
    assert struct.unpack_from("<Q", core, 500) == (disk_image.BIOS_BOOT.start + 1,)
    assert core.count(0) >= 2046


# Packages


def test_dependency_of_a_metapackage():
    """The kernel package is what the metapackage depends on."""
    listing = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n"
    found = apt.parse_dependency(listing, "linux-image-cloud-amd64", "linux-image-")
    assert found == "linux-image-6.1.0-56-cloud-amd64"
    with pytest.raises(cache.BuildError, match="does not depend on any linux-image-"):
        apt.parse_dependency("x\n", "x", "linux-image-")


def test_file_of_a_package():
    """The name under which apt stores a package is what apt says, escaped version and all."""
    line = "'http://mirror/b.deb' busybox_1%3a1.35.0-4_amd64.deb 869608 SHA256:0"
    assert apt.parse_uris(line) == ("busybox_1%3a1.35.0-4_amd64.deb", 869608)


def test_sources_of_other_releases_are_left_out():
    """The guest gets this machine's sources of its own release, each once."""
    listing = """\
bookworm http://mirror/debian/ bookworm main
bookworm http://mirror/debian/ bookworm main
bookworm-security http://mirror/security/ bookworm-security main
trixie http://mirror/debian/ trixie main
"""
    assert debian.parse_index_targets(listing) == [
        "deb http://mirror/debian/ bookworm main",
        "deb http://mirror/security/ bookworm-security main",
    ]


def test_failed_program_is_shown():
    """A program that fails is shown as a line to paste into a shell, with its output."""
    with pytest.raises(cache.BuildError, match=r"status 3:\n  sh -c 'echo why; exit 3'\nwhy"):
        apt.run("sh", "-c", "echo why; exit 3")


# Cache


def test_build_happens_once(in_tmp):
    """A guest is built at the first call and found at the second."""
    built = []
    guest = make_guest(in_tmp, lambda directory: built.append(directory) or {"package": "1.0"})
    place = cache.ensure(guest, cache=in_tmp / "cache")
    assert place == cache.ensure(guest, cache=in_tmp / "cache") == in_tmp / "cache" / "toy"
    assert len(built) == 1
    assert '"package": "1.0"' in (place / cache.STAMP).read_text()


def test_changed_source_or_force_builds_again(in_tmp):
    """A changed source makes a guest stale, and force rebuilds one that is not."""
    built = []
    guest = make_guest(in_tmp, lambda directory: built.append(directory) or {})
    place = cache.ensure(guest, cache=in_tmp / "cache")
    (in_tmp / "source").write_text("two")
    assert not cache.is_current(guest, place)
    cache.ensure(guest, cache=in_tmp / "cache")
    cache.ensure(guest, cache=in_tmp / "cache", force=True)
    assert len(built) == 3


def test_failed_build_leaves_the_old_guest(in_tmp):
    """When a build fails, what was there stays, and nothing else is left."""

    def fail(directory):
        (directory / "half").write_text("half")
        raise cache.BuildError("no")

    def make(directory):
        (directory / "disk").write_text("whole")
        return {}

    place = cache.ensure(make_guest(in_tmp, make), cache=in_tmp / "cache")
    with pytest.raises(cache.BuildError):
        cache.ensure(make_guest(in_tmp, fail), cache=in_tmp / "cache", force=True)
    assert (place / "disk").read_text() == "whole"
    assert {path.name for path in (in_tmp / "cache").iterdir()} == {".toy.lock", "toy"}


@pytest.mark.parametrize("built", [False, True])
def test_rest_of_a_killed_build_is_removed(in_tmp, built):
    """The next call, also one that builds nothing, removes what a killed build left."""
    guest = make_guest(in_tmp, lambda _: {})
    if built:
        cache.ensure(guest, cache=in_tmp / "cache")
    rest = in_tmp / "cache" / ".toy.dead.building"
    rest.mkdir(parents=True)
    (rest / "half").write_text("half")
    cache.ensure(guest, cache=in_tmp / "cache")
    assert not rest.exists()


def test_running_build_is_left_alone(in_tmp):
    """A call that finds the guest there neither waits for a rebuild nor removes its files."""
    guest = make_guest(in_tmp, lambda _: {})
    cache.ensure(guest, cache=in_tmp / "cache")
    building = in_tmp / "cache" / ".toy.alive.building"
    building.mkdir()
    with cache.open_lock(in_tmp / "cache" / ".toy.lock"):
        cache.ensure(guest, cache=in_tmp / "cache")
        assert building.exists()


TERMINATED = """
import pathlib, sys, time
from guests import cache

def build(directory):
    print(directory, flush=True)
    time.sleep(60)

guest = cache.Guest(name="toy", inputs=(), build=build)
cache.ensure(guest, cache=pathlib.Path(sys.argv[1]))
"""


def test_terminated_build_leaves_nothing(tmp_path):
    """SIGTERM during a build removes its temporary directory."""
    with subprocess.Popen(
        [sys.executable, "-c", TERMINATED, tmp_path],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        building = Path(process.stdout.readline().strip())
        assert building.is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert not building.exists()


def test_every_guest_has_all_its_files_as_inputs():
    """No data file can change without its guest becoming stale."""
    for guest in (bios.GUEST, tiny.GUEST, debian.GUEST):
        files = {path for path in (cache.FILES / guest.name).rglob("*") if path.is_file()}
        assert files
        assert files <= set(guest.inputs)


def test_print_says_where_without_building(tmp_path):
    """`guest NAME --print` prints the directory and fails when the guest is not there."""
    done = subprocess.run(
        [SCRIPTS / "guest", "tiny", "--print"],
        env=os.environ | {"QORCH_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, f"{tmp_path}/guests/tiny\n")
    assert list(tmp_path.iterdir()) == []
