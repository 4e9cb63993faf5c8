"""The real-mode guest: a few kilobytes of C behind a boot sector, see files/bios/main.c."""

from pathlib import Path

from guests.apt import install_missing, run
from guests.cache import FILES, Guest, find_sources

SOURCES = FILES / "bios"
SECTOR = 512
DISK_SIZE = 2 << 20  # the counter is at 1 MiB
NEEDED = {"gcc": "gcc", "ld": "binutils", "objcopy": "binutils"}
CFLAGS = (
    # Real mode, and nothing a 386 did not have: no SSE, which KVM's emulator may not know.
    *("-m16", "-march=i386", "-mno-sse", "-mno-mmx", "-mno-80387"),
    *("-std=gnu11", "-Os", "-ffreestanding", "-fno-strict-aliasing"),
    # What a distribution's GCC switches on for programs that have an operating system.
    *("-fno-pic", "-fno-pie", "-fno-stack-protector", "-fcf-protection=none"),
    *("-fno-asynchronous-unwind-tables",),
    *("-Wall", "-Wextra", "-Werror", "-Wno-address-of-packed-member"),
)


def build(directory: Path) -> dict[str, str]:
    """Make disk.img."""
    install_missing(NEEDED)
    objects = []
    for source in sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.S")]):
        objects.append(directory / f"{source.name}.o")
        run("gcc", *CFLAGS, "-c", source, "-o", objects[-1])
    elf, image = directory / "guest.elf", directory / "disk.img"
    script = SOURCES / "guest.lds"
    run("ld", "-m", "elf_i386", "--no-warn-rwx-segments", "-T", script, "-o", elf, *objects)
    run("objcopy", "-O", "binary", elf, image)
    for path in [*objects, elf]:
        path.unlink()
    with image.open("r+b") as file:
        file.truncate(DISK_SIZE)
    image.chmod(0o644)
    return {"gcc": run("gcc", "-dumpfullversion").strip()}


GUEST = Guest(
    name="bios",
    inputs=find_sources("bios", files="bios"),
    build=build,
)
