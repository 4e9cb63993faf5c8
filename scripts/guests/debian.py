"""The full guest: Debian 12 with systemd, cloud-init, qemu-guest-agent and sshd.

mmdebstrap makes the root directory from this machine's own package sources; files/debian says
what goes in. It is trimmed for TCG, where every service costs a tenth of a second and every
module of cloud-init half of one.
"""

import re
import shutil
from pathlib import Path

from guests.apt import download, install_missing, run, update_lists
from guests.cache import FILES, BuildError, Guest, find_sources, progress
from guests.deb import find_version
from guests.disk_image import read_boot_files, write_disk

SOURCES = FILES / "debian"
RELEASE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "grub-mkimage": "grub-common",
    "qemu-img": "qemu-utils",
    KEYRING: "debian-archive-keyring",
}
DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-unsafe-io",
)


def build(directory: Path) -> dict[str, str]:
    """Make disk.qcow2, and vmlinuz, initrd.img and cmdline for booting without a boot loader."""
    install_missing(NEEDED)
    work = directory / "work"
    work.mkdir()
    rootfs, raw = work / "rootfs", work / "disk.raw"
    versions = make_rootfs(rootfs)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile(rootfs / (rootfs / name).readlink(), directory / name)
    cmdline = (SOURCES / "cmdline").read_text().strip()
    (directory / "cmdline").write_text(cmdline + "\n")

    progress("making the disk")
    boot = read_boot_files(
        shim_signed=download("shim-signed", work),
        grub_efi_signed=download("grub-efi-amd64-signed", work),
        grub_pc_bin=download("grub-pc-bin", work),
    )
    grub_cfg = (SOURCES / "grub.cfg").read_text().replace("@CMDLINE@", cmdline)
    write_disk(raw, rootfs=rootfs, boot=boot, grub_cfg=grub_cfg, work=work)
    progress("compressing it")
    run(
        *("qemu-img", "convert", "-c", "-m", "2", "-W", "-O", "qcow2"),
        *("-o", "compression_type=zstd", raw, directory / "disk.qcow2"),
    )
    shutil.rmtree(work)
    return versions


def make_rootfs(rootfs: Path) -> dict[str, str]:
    """Install the packages into a new directory; return the versions of the foremost."""
    progress(f"installing Debian {RELEASE} into a directory (a minute or two)")
    run(
        *make_containment(),
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--architectures=amd64"),
        f"--include={','.join(read_packages())}",
        "--aptopt=Acquire::Languages none",
        "--aptopt=APT::Install-Recommends false",
        *find_proxies(),
        *(f"--dpkgopt={option}" for option in DPKG_OPTIONS),
        # Before the kernel is unpacked, so that its initramfs is made as these files say.
        f'--essential-hook=cp -rT --preserve=mode "{SOURCES}/root" "$1"',
        f'--customize-hook="{SOURCES}/customize" "$1"',
        *(RELEASE, rootfs, "-"),
        stdin="\n".join(find_sources_list()) + "\n",
    )
    shown = ("cloud-init", "systemd", "qemu-guest-agent", "openssh-server")
    listing = run("dpkg-query", f"--admindir={rootfs}/var/lib/dpkg", "-W", *shown)
    return dict(line.split("\t") for line in listing.splitlines())
