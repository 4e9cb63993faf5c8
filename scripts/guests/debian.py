"""The full guest: Debian 12 with systemd, cloud-init, qemu-guest-agent and sshd.

mmdebstrap makes the root directory from this machine's own package sources; files/debian says
what goes in. It is trimmed for TCG, where every service costs a tenth of a second and every
module of cloud-init half of one.
"""

import re
import shlex
import shutil
from pathlib import Path

from guests.apt import download, install_missing, run, update_lists
from guests.cache import FILES, BuildError, Guest, find_sources, progress
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
    overlay = work / "overlay"
    copy_tree(SOURCES / "root", overlay)
    versions = make_rootfs(rootfs, overlay)
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


def copy_tree(source: Path, target: Path) -> None:
    """Copy files with modes that do not depend on this repository's, or on the umask."""
    target.mkdir()
    target.chmod(0o755)
    for path in sorted(source.iterdir()):
        copy = target / path.name
        if path.is_dir():
            copy_tree(path, copy)
        else:
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def make_rootfs(rootfs: Path, overlay: Path) -> dict[str, str]:
    """Install the packages into a new directory; return the versions of the foremost.

    The files in `overlay` are laid over the essential packages, before all others.
    """
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
        f'--essential-hook=cp -rT --preserve=mode {shlex.quote(str(overlay))} "$1"',
        f'--customize-hook={shlex.quote(str(SOURCES / "customize"))} "$1"',
        *(RELEASE, rootfs, "-"),
        stdin="\n".join(find_sources_list()) + "\n",
    )
    shown = ("cloud-init", "systemd", "qemu-guest-agent", "openssh-server")
    listing = run("dpkg-query", f"--admindir={rootfs}/var/lib/dpkg", "-W", *shown)
    return dict(line.split("\t") for line in listing.splitlines())


def read_packages() -> list[str]:
    """Return the names in files/debian/packages."""
    lines = (SOURCES / "packages").read_text().splitlines()
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def find_sources_list() -> list[str]:
    """Return this machine's package sources of that release, as lines for sources.list.

    Only Debian's own: what else is installed here is no business of the guest's.
    """
    command = (
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT)",
    )
    wanted = ("Created-By: Packages", "Origin: Debian", "Architecture: amd64")
    lines = parse_index_targets(run(*command, *wanted))
    if not lines:  # this is a machine whose lists were removed, as in many container images
        update_lists()
        lines = parse_index_targets(run(*command, *wanted))
    if not lines:
        raise BuildError(f"this machine has no package source of Debian {RELEASE}")
    return lines


def parse_index_targets(listing: str) -> list[str]:
    """Turn lines of codename, URI, release and component into lines for sources.list."""
    targets = [line.split() for line in listing.splitlines()]
    lines = [f"deb {' '.join(rest)}" for codename, *rest in targets if codename.startswith(RELEASE)]
    return list(dict.fromkeys(lines))


def find_proxies() -> list[str]:
    """Return this machine's apt settings on how to reach the sources, for mmdebstrap."""
    settings = run("apt-config", "dump", "--format", '%F "%v"%n', "Acquire").splitlines()
    return [f"--aptopt={line}" for line in settings if re.match(r"Acquire::https?::\S+ ", line)]


def make_containment() -> tuple[str, ...]:
    """Return the words that run a command so that nothing of it outlives this process.

    mmdebstrap mounts /dev and /proc into the new root. In namespaces of its own, no mount is left
    and removing the directory cannot reach through one. When this process dies, however it dies,
    unshare is killed, and with it the first process of the namespace, so all of them.
    """
    return (
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
    )


GUEST = Guest(
    name="debian",
    inputs=find_sources("deb", "debian", "disk_image", "gpt", files="debian"),
    build=build,
)
