"""What is inside a .deb, read without unpacking or installing it."""

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from guests.cache import BuildError


def read_files(deb: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path (no leading slash) and the content of each regular file."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content:
                yield member.name.removeprefix("./"), content.read()
    if process.returncode:
        raise BuildError(f"dpkg-deb cannot read {deb}")


def find_version(deb: Path) -> str:
    """Return the version in the file name `package_version_architecture.deb`."""
    return deb.name.split("_")[1]
