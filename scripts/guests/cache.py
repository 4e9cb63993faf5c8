"""Where built guests are kept, and how they get there.

A guest is a directory. It is built in a temporary directory beside its place and renamed, so a
reader sees a whole guest or none. Each place has a lock file: a build holds it, whoever comes at
the same time waits and then finds the guest ready. A temporary directory is locked too while its
build lives, by the same lock, so whoever holds the lock may remove what dead builds left.

The stamp inside says what the guest was made from: a hash over the files that determine it, which
is looked at every time, and the versions of packages, which are for people. Asking apt for newer
ones would take a second each time, so they do not make a guest stale; `--force` takes them.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

STAMP = "stamp.json"
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
REMOVE_TRIES = 50
SOURCES = Path(__file__).parent
FILES = SOURCES / "files"


class BuildError(Exception):
    """A guest cannot be built; says why in the user's words."""


@dataclass(frozen=True, kw_only=True)
class Guest:
    """One kind of guest: its name, what it is made from, and the function that makes it.

    `build` fills the directory it is given and returns what else is worth keeping in the stamp,
    such as versions of packages.
    """

    name: str
    inputs: tuple[Path, ...]
    build: Callable[[Path], dict[str, str]]


def find_cache() -> Path:
    """Return the directory of all guests, `${QORCH_CACHE:-<repo>/.cache}/guests`."""
    root = os.environ.get("QORCH_CACHE") or SOURCES.parent.parent / ".cache"
    return Path(root).absolute() / "guests"


def find_sources(*modules: str, files: str | None = None) -> tuple[Path, ...]:
    """Return the paths of `modules` (names of files beside this one) and of all data files."""
    paths = [SOURCES / f"{module}.py" for module in modules]
    if files:
        paths += (path for path in (FILES / files).rglob("*") if path.is_file())
    return tuple(sorted(paths))


def hash_files(paths: Iterable[Path]) -> str:
    """Return a hash over names, contents, and whether they are executable, of files."""
    digest = hashlib.sha256()
    for path in paths:
        data = path.read_bytes()
        executable = bool(path.stat().st_mode & 0o100)
        name = path.relative_to(SOURCES)
        digest.update(f"{name}\0{executable}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def is_current(guest: Guest, place: Path) -> bool:
    """Say whether `place` holds the guest, built from the inputs as they are now."""
    try:
        stamp = json.loads((place / STAMP).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return bool(stamp.get("inputs") == hash_files(guest.inputs))


def progress(text: str) -> None:
    """Tell the user what is being done, on stderr."""
    print(text, file=sys.stderr, flush=True)


def ensure(guest: Guest, *, cache: Path, force: bool = False) -> Path:
    """Build the guest unless it is there, and return its directory."""
    place = cache / guest.name
    lock = cache / f".{guest.name}.lock"
    if not force and is_current(guest, place):
        if find_leftovers(guest, cache):
            with contextlib.suppress(BlockingIOError), open_lock(lock, wait=False):
                remove_leftovers(guest, cache)
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with open_lock(lock):
        remove_leftovers(guest, cache)
        if force or not is_current(guest, place):  # someone else may have built it meanwhile
            with open_build(guest, cache) as building:
                extra = guest.build(building)
                stamp = {"inputs": hash_files(guest.inputs)} | extra
                (building / STAMP).write_text(json.dumps(stamp, indent=2) + "\n")
                replace_directory(place, building)
    return place


@contextlib.contextmanager
def open_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock. It ends with the process at the latest, whatever ends that.

    Raises BlockingIOError if someone else holds it and `wait` is false.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            progress(f"waiting for another build, which holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def open_build(guest: Guest, cache: Path) -> Iterator[Path]:
    """Make a temporary directory that is removed on errors, Ctrl-C, SIGTERM and SIGHUP."""
    directory = Path(tempfile.mkdtemp(prefix=f".{guest.name}.", suffix=".building", dir=cache))
    before = {number: signal.signal(number, exit_on_signal) for number in SIGNALS}
    try:
        directory.chmod(0o755)
        yield directory
    finally:
        remove_tree(directory)
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_on_signal(number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that `finally` is run."""
    raise SystemExit(128 + number)


def remove_tree(directory: Path) -> None:
    """Remove a directory in which processes that were just killed may still be writing."""
    for _ in range(REMOVE_TRIES):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)


def find_leftovers(guest: Guest, cache: Path) -> list[Path]:
    """Return the temporary directories of builds, of which at most one is alive."""
    return list(cache.glob(f".{guest.name}.*.building"))


def remove_leftovers(guest: Guest, cache: Path) -> None:
    """Remove the temporary directories of builds that were killed. Call with the lock held."""
    for directory in find_leftovers(guest, cache):
        progress(f"removing the rest of a dead build: {directory}")
        remove_tree(directory)


def replace_directory(place: Path, building: Path) -> None:
    """Put a finished build in its place. A machine that runs from the old files keeps them."""
    old = building.with_name(f".{place.name}.old.building")
    remove_tree(old)
    with contextlib.suppress(FileNotFoundError):
        place.rename(old)
    building.rename(place)
    remove_tree(old)
