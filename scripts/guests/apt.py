"""Debian's packages: programs that a build needs, and packages that go into a guest."""

import functools
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from guests.cache import BuildError, find_cache, open_lock, progress

APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
LOCK_PATIENCE = ("-o", "DPkg::Lock::Timeout=300")
ERROR_LINES = 15


def run(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> str:
    """Run a program and return its stdout; its output is shown only when it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        env=os.environ | dict(env or {}),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-ERROR_LINES:])
        line = shlex.join(map(str, words))
        raise BuildError(f"this ended with status {done.returncode}:\n  {line}\n{output}")
    return done.stdout


@functools.cache
def update_lists() -> None:
    """Fetch the package lists, once per run. A third-party source that fails does not matter."""
    progress("apt-get update")
    run("apt-get", "-q", "update", env=APT_ENVIRONMENT)


def apt_get(*words: str, cwd: Path | None = None) -> str:
    """Run apt-get; where the lists are missing or too old for it, fetch them and try again.

    Guests may be built at the same time, and apt-get gives up when another one is at work.
    """
    command = ("apt-get", "-q", "-y", "--no-install-recommends", *LOCK_PATIENCE, *words)
    cache = find_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with open_lock(cache / ".apt.lock"):
        try:
            return run(*command, env=APT_ENVIRONMENT, cwd=cwd)
        except BuildError:
            update_lists()
            return run(*command, env=APT_ENVIRONMENT, cwd=cwd)


def install_missing(needed: Mapping[str, str]) -> None:
    """Install the packages whose program or file is missing.

    `needed` maps a program's name or a file's absolute path to the package that has it.
    """
    packages = sorted(
        {
            package
            for what, package in needed.items()
            if not shutil.which(what) and not (what.startswith("/") and Path(what).exists())
        }
    )
    if not packages:
        return
    command = ["apt-get", "install", *packages]
    if os.geteuid() != 0:
        raise BuildError(f"missing packages; as root: {shlex.join(command)}")
    progress(shlex.join(command))
    apt_get("install", *packages)


def find_dependency(package: str, prefix: str) -> str:
    """Return the package with that prefix that `package` depends on, as a metapackage does."""
    try:
        return parse_dependency(run("apt-cache", "depends", package), package, prefix)
    except BuildError:
        update_lists()
        return parse_dependency(run("apt-cache", "depends", package), package, prefix)


def parse_dependency(listing: str, package: str, prefix: str) -> str:
    """Find that dependency in what `apt-cache depends` printed."""
    for line in listing.splitlines():
        relation, _, name = line.strip().partition(": ")
        if relation == "Depends" and name.startswith(prefix):
            return name
    raise BuildError(f"{package} does not depend on any {prefix}… package")


def download(package: str, directory: Path) -> Path:
    """Fetch the .deb of a package in its newest version, unless it is in `directory`.

    Nothing is installed. Older versions of it are removed from there.
    """
    name, size = parse_uris(apt_get("download", "--print-uris", package))
    deb = directory / name
    for other in directory.glob(f"{package}_*.deb"):
        if other != deb or other.stat().st_size != size:
            other.unlink()
    if not deb.exists():
        progress(f"fetching {package}")
        # Without this apt warns that its own user cannot write to a directory of root's.
        apt_get("-o", "APT::Sandbox::User=root", "download", package, cwd=directory)
    return deb


def parse_uris(listing: str) -> tuple[str, int]:
    """Return the file name and size in the line `'URI' NAME SIZE HASH` that apt-get prints."""
    for line in listing.splitlines():
        if line.startswith("'"):
            _, name, size, *_ = line.split()
            return name, int(size)
    raise BuildError(f"apt-get named no file:\n{listing}")
