"""The test VM: Debian's full kernel, which borrows the rest from the machine it runs on.

This machine's own root file system is shared into it read-only, so every program and the working
tree are there at the same paths; what is written goes to memory. `scripts/testbed` runs it.

The kernel has the features that a small machine's often lacks: 8021q, bridges with VLAN filtering,
device-mapper, vhost, nbd, KVM. It boots with `-kernel vmlinux -initrd initrd`, see files/testbed.
"""

import lzma
import struct
from fnmatch import fnmatchcase
from pathlib import Path

from guests.apt import download, find_dependency, run
from guests.cache import FILES, BuildError, Guest, find_sources, progress
from guests.cpio import Archive
from guests.deb import find_version
from guests.kernel import Kernel, read_kernel, sort_modules
from guests.tiny import add_tree, find_applets, read_busybox

SOURCES = FILES / "testbed"
# What mounts the root file system and brings the output out: in the initramfs.
BOOT_MODULES = (
    *("virtio_pci", "virtio_console", "virtio_blk", "virtio_rng"),
    *("9p", "9pnet_virtio", "overlay"),
)
# What is loaded when it is needed, as shell patterns, and what those modules need.
MODULES = (
    *("8021q", "bridge", "br_netfilter", "veth", "macvlan", "macvtap", "tun", "tap"),
    *("dummy", "ifb", "bonding", "vxlan", "virtio_net", "vhost*", "vsock*", "vmw_vsock_*"),
    *("nf_*", "nft_*", "nfnetlink*", "xt_*", "x_tables", "ip_tables", "ip6_tables", "ip*table_*"),
    *("ipt_*", "ip6t_*", "ebt*", "ip_set*", "arp*", "sch_*", "cls_*", "act_*", "em_*"),
    *("dm_*", "raid*", "md_mod", "loop", "nbd", "brd", "virtio_scsi", "scsi_debug", "zram"),
    *("ext4", "xfs", "btrfs", "vfat", "isofs", "squashfs", "fuse", "virtiofs", "nls_*"),
    *("kvm_amd", "kvm_intel", "vfio*", "virtio_mem", "virtio_balloon", "xts", "cbc", "crc32c*"),
)
XZ_MAGIC = b"\xfd7zXZ\0"


def build(directory: Path) -> dict[str, str]:
    """Make vmlinux, initrd, cmdline, the module tree lib/modules/VERSION and an empty run."""
    package = find_dependency("linux-image-amd64", "linux-image-")
    debs = directory.parent / "debs"
    debs.mkdir(exist_ok=True)
    kernel_deb = download(package, debs)
    busybox_deb = download("busybox-static", debs)

    progress("unpacking the test VM's kernel and modules")
    kernel = read_kernel(kernel_deb)
    busybox = read_busybox(busybox_deb)
    (directory / "vmlinux").write_bytes(extract_elf(kernel.vmlinuz))
    (directory / "initrd").write_bytes(make_initramfs(kernel, busybox))
    (directory / "cmdline").write_bytes((SOURCES / "cmdline").read_bytes())
    (directory / "run").mkdir()  # where each run mounts its own files
    write_modules(kernel, directory, package.removeprefix("linux-image-"), busybox)
    return {package: find_version(kernel_deb), "busybox-static": find_version(busybox_deb)}


def extract_elf(image: bytes) -> bytes:
    """Return the kernel proper, an ELF that QEMU enters by PVH.

    Debian packs this kernel with xz, and a guest under TCG takes 2.4 s to unpack it. Where it lies
    is said by the boot protocol's fields setup_sects, payload_offset and payload_length.
    """
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if not payload.startswith(XZ_MAGIC):
        raise BuildError("this kernel is not packed with xz, as Debian's are")
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(payload)


def make_initramfs(kernel: Kernel, busybox: bytes) -> bytes:
    """Return the cpio archive of the first root file system."""
    archive = Archive()
    archive.add_character_device("dev/console", 5, 1)
    archive.add_character_device("dev/null", 1, 3, mode=0o666)
    for directory in ("proc", "sys"):
        archive.add_directory(directory)
    archive.add_file("bin/busybox", busybox, 0o755)
    for applet in sorted(find_applets(busybox)):
        if applet != "busybox":
            archive.add_symlink(f"bin/{applet}", "busybox")
    order = sort_modules(kernel, BOOT_MODULES)
    for module in order:
        archive.add_file(f"modules/{module}.ko", kernel.modules[module])
    archive.add_file("modules/order", "".join(f"{module}\n" for module in order).encode())
    add_tree(archive, SOURCES / "root")
    return archive.finish()


def write_modules(kernel: Kernel, directory: Path, version: str, busybox: bytes) -> None:
    """Write the modules and the index that modprobe looks into."""
    tree = directory / "lib" / "modules" / version
    tree.mkdir(parents=True)
    for name in sort_modules(kernel, find_wanted(kernel)):
        (tree / f"{name}.ko").write_bytes(kernel.modules[name])
    (tree / "modules.builtin").write_text("".join(f"{name}.ko\n" for name in kernel.builtin))
    program = directory / "busybox"
    program.write_bytes(busybox)
    program.chmod(0o755)
    run(program, "depmod", "-b", directory, version)
    program.unlink()


def find_wanted(kernel: Kernel) -> list[str]:
    """Return the kernel's modules that MODULES and BOOT_MODULES name, sorted."""
    patterns = (*BOOT_MODULES, *MODULES)
    return sorted(
        name for name in kernel.modules if any(fnmatchcase(name, each) for each in patterns)
    )


GUEST = Guest(
    name="testbed",
    inputs=find_sources("cpio", "deb", "kernel", "testbed", "tiny", files="testbed"),
    build=build,
)
