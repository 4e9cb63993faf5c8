"""The small Linux guest: Debian's cloud kernel and an initramfs with busybox.

What it does is in files/tiny/root, which is its root file system as it stands; etc/start comes
first. The same packages give the same bytes.

It boots with `-kernel vmlinuz -initrd initrd.gz -append "$(cat cmdline)"` on pc, q35 and microvm,
and has drivers for virtio on PCI and MMIO. On microvm it needs ACPI (QEMU's default there), by
which this kernel finds virtio-mmio devices, and under TCG one word more:

    tsc_early_khz=2596138        the "cpu MHz" of the host's /proc/cpuinfo, times 1000

A microvm has no clock but TSC and PIT. When the host is busy, Linux cannot measure one by the
other and then waits for ever, before its first line. Under KVM it is told the frequency.
"""

import gzip
import tempfile
from pathlib import Path

from guests.apt import download, find_dependency, run
from guests.cache import FILES, BuildError, Guest, find_sources, progress
from guests.cpio import Archive
from guests.deb import find_version, read_files
from guests.kernel import Kernel, read_kernel, sort_modules

SOURCES = FILES / "tiny"
# The cloud kernel has NVMe, ext4 and serial ports built in, and no AHCI, e1000 or 9p.
MODULES = (
    *("virtio_pci", "virtio_mmio"),  # microvm announces virtio-mmio devices by ACPI
    *("virtio_net", "virtio_blk", "sd_mod", "sr_mod", "virtio_scsi", "ata_piix"),
    *("virtio_console", "virtio_rng", "virtio_balloon", "virtio_mem"),
    *("button", "evdev"),  # the power button, as acpid sees it
    *("virtiofs", "isofs"),
    *("pvpanic_pci", "pvpanic_mmio", "qemu_fw_cfg"),
)


def build(directory: Path) -> dict[str, str]:
    """Make vmlinuz, initrd.gz and cmdline."""
    package = find_dependency("linux-image-cloud-amd64", "linux-image-")
    debs = directory.parent / "debs"
    debs.mkdir(exist_ok=True)
    kernel_deb = download(package, debs)
    busybox_deb = download("busybox-static", debs)

    progress("packing the initramfs")
    kernel = read_kernel(kernel_deb)
    initramfs = make_initramfs(kernel, read_busybox(busybox_deb))
    (directory / "vmlinuz").write_bytes(kernel.vmlinuz)
    # Stored, not compressed: a guest under TCG takes 0.2 s to unpack what saves 4 MB here.
    (directory / "initrd.gz").write_bytes(gzip.compress(initramfs, compresslevel=0, mtime=0))
    (directory / "cmdline").write_bytes((SOURCES / "cmdline").read_bytes())
    return {package: find_version(kernel_deb), "busybox-static": find_version(busybox_deb)}


def read_busybox(deb: Path) -> bytes:
    """Return the program busybox."""
    for name, data in read_files(deb):
        if name.endswith("bin/busybox"):
            return data
    raise BuildError(f"{deb.name} holds no busybox")


def find_applets(busybox: bytes) -> list[str]:
    """Return the names busybox answers to."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "busybox")
        program.write_bytes(busybox)
        program.chmod(0o700)
        return run(program, "--list").split()


def make_initramfs(kernel: Kernel, busybox: bytes) -> bytes:
    """Return the cpio archive of the guest's root file system."""
    archive = Archive()
    archive.add_character_device("dev/console", 5, 1)
    archive.add_character_device("dev/null", 1, 3, mode=0o666)
    for directory in ("proc", "sys", "run", "tmp"):
        archive.add_directory(directory)
    archive.add_file("bin/busybox", busybox, 0o755)
    archive.add_symlink("sbin", "bin")
    archive.add_symlink("init", "bin/busybox")
    for applet in sorted(find_applets(busybox)):
        if applet != "busybox":
            archive.add_symlink(f"bin/{applet}", "busybox")
    order = sort_modules(kernel, MODULES)
    for module in order:
        archive.add_file(f"lib/modules/{module}.ko", kernel.modules[module])
    archive.add_file("lib/modules/order", "".join(f"{module}\n" for module in order).encode())
    add_tree(archive, SOURCES / "root")
    return archive.finish()


def add_tree(archive: Archive, root: Path) -> None:
    """Add the files under `root`. Of their modes only "executable" counts, as in git."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        archive.add_file(str(path.relative_to(root)), path.read_bytes(), mode)


GUEST = Guest(
    name="tiny",
    inputs=find_sources("cpio", "deb", "kernel", "tiny", files="tiny"),
    build=build,
)
