"""The tiny guest on Debian's full kernel, which has drivers for all that QEMU has.

It is the tiny guest's initramfs, and on top of it the modules of the other kernel: the kernel
unpacks both, one after the other. It boots with `-kernel vmlinux -initrd initrd.gz`.
"""

import gzip
from pathlib import Path

from guests import tiny
from guests.apt import download, find_dependency
from guests.cache import Guest, ensure, find_sources, progress
from guests.cpio import Archive
from guests.deb import find_version
from guests.kernel import Kernel, read_kernel, sort_modules
from guests.testbed import extract_elf

MODULES = (
    *("virtio_pci", "virtio_console", "virtio_rng", "virtio_net", "virtio_blk"),
    *("sd_mod", "sr_mod", "virtio_scsi", "ahci", "ata_piix", "nvme"),
    *("xhci_pci", "ehci_pci", "uhci_hcd", "usb_storage"),
    *("e1000", "e1000e", "8139cp", "vmxnet3"),
    *("button", "evdev", "i6300esb", "pvpanic_mmio", "pvpanic_pci"),
    "vmw_vsock_virtio_transport",
)


def build(directory: Path) -> dict[str, str]:
    """Make vmlinux, initrd.gz and cmdline."""
    small = ensure(tiny.GUEST, cache=directory.parent)
    package = find_dependency("linux-image-amd64", "linux-image-")
    debs = directory.parent / "debs"
    debs.mkdir(exist_ok=True)
    kernel_deb = download(package, debs)

    progress("packing the full kernel's modules")
    kernel = read_kernel(kernel_deb)
    modules = gzip.compress(make_modules(kernel), compresslevel=0, mtime=0)
    (directory / "vmlinux").write_bytes(extract_elf(kernel.vmlinuz))
    (directory / "initrd.gz").write_bytes((small / "initrd.gz").read_bytes() + modules)
    (directory / "cmdline").write_bytes((small / "cmdline").read_bytes())
    return {package: find_version(kernel_deb)}


def make_modules(kernel: Kernel) -> bytes:
    """Return the cpio archive of the modules and their order."""
    archive = Archive()
    order = sort_modules(kernel, MODULES)
    for module in order:
        archive.add_file(f"lib/modules/{module}.ko", kernel.modules[module])
    archive.add_file("lib/modules/order", "".join(f"{module}\n" for module in order).encode())
    return archive.finish()


GUEST = Guest(
    name="devices",
    inputs=find_sources("cpio", "deb", "devices", "kernel", "testbed", "tiny", files="tiny"),
    build=build,
)
