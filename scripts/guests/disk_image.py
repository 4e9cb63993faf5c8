"""A root directory becomes a bootable disk, without loop devices or mounts.

GPT with three partitions, numbered as on Debian's own cloud images: 1 is the root file system,
last on the disk so that it can grow; 14 holds GRUB for the BIOS; 15 is the EFI system partition
with Debian's signed shim and GRUB. So the disk boots from SeaBIOS, OVMF, and OVMF with Secure
Boot.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guests import gpt
from guests.apt import run
from guests.deb import read_files

MIB_SECTORS = (1 << 20) // gpt.SECTOR
ROOT_MIB = 2048
BIOS_BOOT = gpt.Partition(type=gpt.BIOS_BOOT, name="bios", start=MIB_SECTORS, size=MIB_SECTORS)
# FAT32, which UEFI asks for, has at least 65525 clusters: 32 MiB are too few.
ESP = gpt.Partition(type=gpt.ESP, name="esp", start=2 * MIB_SECTORS, size=40 * MIB_SECTORS)
ROOT = gpt.Partition(
    type=gpt.LINUX, name="root", start=42 * MIB_SECTORS, size=ROOT_MIB * MIB_SECTORS
)
SECTORS = ROOT.start + ROOT.size + MIB_SECTORS

# What core.img needs to read the kernel by the script that is built into it.
GRUB_MODULES = "biosdisk part_gpt ext2 search search_label linux serial terminal test echo normal"
GRUB_PC = "usr/lib/grub/i386-pc/"


@dataclass(frozen=True, kw_only=True)
class BootFiles:
    """Boot loaders out of Debian's packages."""

    shim: bytes
    signed_grub: bytes
    grub_pc: Mapping[str, bytes]


def read_boot_files(*, shim_signed: Path, grub_efi_signed: Path, grub_pc_bin: Path) -> BootFiles:
    """Find the boot loaders in those three packages."""
    shim = dict(read_files(shim_signed))["usr/lib/shim/shimx64.efi.signed"]
    grub = dict(read_files(grub_efi_signed))["usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"]
    grub_pc = {
        name.removeprefix(GRUB_PC): data
        for name, data in read_files(grub_pc_bin)
        if name.startswith(GRUB_PC)
    }
    return BootFiles(shim=shim, signed_grub=grub, grub_pc=grub_pc)


def write_disk(raw: Path, *, rootfs: Path, boot: BootFiles, grub_cfg: str, work: Path) -> None:
    """Write the whole disk to the new file `raw`. `work` is a directory for what is in between."""
    with raw.open("wb") as file:
        file.truncate(SECTORS * gpt.SECTOR)
        for offset, data in gpt.make_gpt(SECTORS, {1: ROOT, 14: BIOS_BOOT, 15: ESP}).items():
            file.seek(offset)
            file.write(data)
    write_esp(raw, boot, grub_cfg, work)
    write_grub_pc(raw, boot, grub_cfg, work)
    write_root(raw, rootfs)


def write_root(raw: Path, rootfs: Path) -> None:
    """Make the root file system and fill it from a directory."""
    extended = (
        f"offset={ROOT.start * gpt.SECTOR}",
        f"hash_seed={gpt.make_guid('directory hash')}",
        "lazy_itable_init=0",  # or the guest would write the inode tables at its first boot
    )
    run(
        *("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-U", str(gpt.make_guid("root"))),
        *("-m", "0", "-E", ",".join(extended), "-d"),
        *(rootfs, raw, f"{ROOT_MIB}M"),
    )


def write_esp(raw: Path, boot: BootFiles, grub_cfg: str, work: Path) -> None:
    """Make the EFI system partition: the firmware starts shim, that GRUB, that reads grub.cfg."""
    files = {
        "EFI/BOOT/BOOTX64.EFI": boot.shim,
        "EFI/BOOT/grubx64.efi": boot.signed_grub,
        "EFI/debian/grub.cfg": grub_cfg.encode(),
    }
    image = work / "esp.img"
    with image.open("wb") as file:
        file.truncate(ESP.size * gpt.SECTOR)
    run("mkfs.vfat", "-F", "32", "-n", "ESP", "-i", "51524348", image)
    run("mmd", "-i", image, "::EFI", "::EFI/BOOT", "::EFI/debian")
    for name, data in files.items():
        source = work / "esp-file"
        source.write_bytes(data)
        run("mcopy", "-i", image, source, f"::{name}")
    with raw.open("r+b") as file:
        file.seek(ESP.start * gpt.SECTOR)
        file.write(image.read_bytes())


def write_grub_pc(raw: Path, boot: BootFiles, grub_cfg: str, work: Path) -> None:
    """Put GRUB's boot.img into the MBR and its core.img into the BIOS boot partition."""
    modules = work / "grub-pc"
    modules.mkdir()
    for name, data in boot.grub_pc.items():
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_bytes(data)
    script, core_img = work / "grub.cfg", work / "core.img"
    script.write_text(grub_cfg)
    run(
        *("grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", f"--directory={modules}"),
        *(f"--config={script}", f"--output={core_img}", *GRUB_MODULES.split()),
    )
    with raw.open("r+b") as file:
        file.write(patch_boot_img(boot.grub_pc["boot.img"]))
        file.seek(BIOS_BOOT.start * gpt.SECTOR)
        file.write(patch_core_img(core_img.read_bytes()))


def patch_boot_img(boot_img: bytes) -> bytes:
    """Return the code for the MBR, told where core.img starts, as grub-install does it.

    The offsets are GRUB's, from include/grub/i386/pc/boot.h.
    """
    code = bytearray(boot_img[:440])
    struct.pack_into("<Q", code, 0x5C, BIOS_BOOT.start)  # GRUB_BOOT_MACHINE_KERNEL_SECTOR
    code[0x66:0x68] = b"\x90\x90"  # GRUB_BOOT_MACHINE_DRIVE_CHECK: trust the BIOS's drive number
    return bytes(code)


def patch_core_img(core_img: bytes) -> bytes:
    """Return core.img with its first sector told where the rest is."""
    limit = BIOS_BOOT.size * gpt.SECTOR
    if len(core_img) > limit:
        raise ValueError(f"core.img has {len(core_img)} bytes, its partition {limit}")
    code = bytearray(core_img)
    struct.pack_into("<Q", code, gpt.SECTOR - 12, BIOS_BOOT.start + 1)  # the first block list entry
    return bytes(code)
