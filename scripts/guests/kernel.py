"""A kernel and its modules, straight out of Debian's kernel package.

A module says itself, in its .modinfo section, which others it needs. So neither depmod nor the
kernel's installation is needed to load modules in the right order.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from guests.cache import BuildError
from guests.deb import read_files


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What a kernel package holds. Modules go by the name that lsmod shows."""

    vmlinuz: bytes
    modules: Mapping[str, bytes]
    builtin: frozenset[str]


def read_kernel(deb: Path) -> Kernel:
    """Read a linux-image package."""
    vmlinuz = b""
    modules: dict[str, bytes] = {}
    builtin: frozenset[str] = frozenset()
    for name, data in read_files(deb):
        if name.startswith("boot/vmlinuz-"):
            vmlinuz = data
        elif name.endswith(".ko"):
            modules[module_name(name)] = data
        elif name.endswith("/modules.builtin"):
            builtin = frozenset(module_name(line) for line in data.decode().split())
    if not vmlinuz or not modules:
        raise BuildError(f"{deb.name} holds no kernel or no modules")
    return Kernel(vmlinuz=vmlinuz, modules=modules, builtin=builtin)


def module_name(path: str) -> str:
    """Return the module's name: `virtio_rng` for `…/virtio-rng.ko`."""
    return PurePosixPath(path).stem.replace("-", "_")


def find_dependencies(module: bytes) -> list[str]:
    """Return the modules that this one needs, as its .modinfo section names them."""
    needed = re.search(rb"\0depends=([^\0]*)\0", module)
    return needed[1].decode().replace("-", "_").split(",") if needed and needed[1] else []


def find_soft_dependencies(module: bytes) -> list[str]:
    """Return the modules that this one wants before it, if the kernel has them."""
    wanted = re.findall(rb"\0softdep=pre: ([^\0]*)(?=\0)", module)
    return b" ".join(wanted).decode().replace("-", "_").split()


def sort_modules(kernel: Kernel, wanted: Iterable[str]) -> list[str]:
    """Return the wanted modules and all they need, each after what it needs.

    What is built in needs no loading. Raises BuildError for what the kernel does not have.
    """
    order: list[str] = []

    def visit(name: str, needed_by: str) -> None:
        if name in order or name in kernel.builtin:
            return
        if name not in kernel.modules:
            raise BuildError(f"this kernel has no module {name}, needed by {needed_by}")
        module = kernel.modules[name]
        for dependency in find_soft_dependencies(module):
            if dependency in kernel.modules:
                visit(dependency, name)
        for dependency in find_dependencies(module):
            visit(dependency, name)
        order.append(name)

    for name in wanted:
        visit(name, "the guest")
    return order
