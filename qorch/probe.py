"""Look at the host once, for one document. Blocking: call it in a thread."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qorch.capabilities.ask import find_emulator
from qorch.capabilities.values import Emulator
from qorch.errors import MachineError
from qorch.facts import Facts, File, HugePages, Image, Kvm, PageCount, Room
from qorch.firmware import Firmware, parse_firmwares
from qorch.paths import StateDir
from qorch.plan.files import name_devices, name_files, name_places, name_text_files
from qorch.plan.storage import plan_pools
from qorch.probe_devices import (
    find_host_pci,
    find_host_usb,
    find_mdevs,
    find_scsi_generic,
)
from qorch.spec import DiskSpec, FirmwareType, Spec, VolumeSpec
from qorch.units import Name
from qorch_net.host import HostNetwork
from qorch_storage.errors import StorageError
from qorch_storage.image import find_chain
from qorch_storage.info import ImageInfo
from qorch_storage.plan import ImageFormat, PoolPlan, find_format

_IO_URING_SETUP = 425  # the number of the system call on x86_64
PROGRAMS = ("qemu-system-x86_64", "qemu-img", "swtpm", "virtiofsd", "passt", "dnsmasq")
_FURTHER_PLACES = "/usr/sbin:/usr/local/sbin:/sbin:/usr/libexec:/usr/lib/qemu"
_FIRMWARE_PLACES = (Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware"))
_TEXT_MAX = 1 << 20  # bytes; a seed is small
_ELF = b"\x7fELF"


def probe(
    spec: Spec,
    state: StateDir,
    defined: Mapping[Name, PoolPlan] | None = None,
    *,
    ask: bool = True,
) -> Facts:
    """The host as far as planning `spec` asks for it. Changes nothing, but keeps QEMU's answers.

    `defined` are the pools that there are already. Without `ask`, QEMU is not run to be asked what
    it has.
    """
    pools = [pool.path for pool in plan_pools(spec, state, defined=defined).values()]
    programs = {name: Path(found) for name in PROGRAMS if (found := _which(name))}
    return Facts(
        state=state,
        host_id=_find_host_id(),
        cpus=frozenset(os.sched_getaffinity(0)),
        kvm=find_kvm(),
        programs=programs,
        **(_ask_emulators(spec, state, programs) if ask else {}),
        room=find_room(),
        network=_find_network(spec),
        images=(images := dict(_find_images(spec))),
        block_devices=frozenset(_find_block_devices(images)),
        io_uring=find_io_uring(),
        **_find_devices(spec),
        vhost_net=os.access("/dev/vhost-net", os.R_OK | os.W_OK),
        files=dict(_find_files(spec)),
        volumes=frozenset(path for pool in pools if pool.is_dir() for path in pool.iterdir()),
        places=frozenset(pool.resolve() for pool in pools),
        firmwares=find_firmwares() if _uses_firmwares(spec) else (),
        hugepages=find_hugepages() if _uses_hugepages(spec) else HugePages(),
    )


def _which(name: str) -> str | None:
    """Dnsmasq lies in /usr/sbin, virtiofsd beside libraries: neither is on every PATH."""
    return shutil.which(name) or shutil.which(name, path=_FURTHER_PLACES)


def _find_host_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip() or socket.gethostname()
    except OSError:
        return socket.gethostname()


def find_kvm(device: Path = Path("/dev/kvm"), cpuinfo: Path = Path("/proc/cpuinfo")) -> Kvm:
    """Whether /dev/kvm opens, and whether the CPU has what KVM needs to run any guest."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Kvm(error=f"{device} does not open: {error.strerror}", hardware=False)
    flags = next(
        (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), ""
    ).split()
    return Kvm(error=None, hardware="vmx" in flags or "svm" in flags)


def find_hugepages(
    meminfo: Path = Path("/proc/meminfo"), sizes: Path = Path("/sys/kernel/mm/hugepages")
) -> HugePages:
    """Huge pages by size; those that the kernel may make on demand count as total and free."""
    words = [line.split() for line in meminfo.read_text().splitlines()]
    default = next((int(line[1]) << 10 for line in words if line[0] == "Hugepagesize:"), 2 << 20)
    pages = {}
    for entry in sizes.iterdir() if sizes.is_dir() else ():
        kib = int(entry.name.removeprefix("hugepages-").removesuffix("kB"))
        total, free, extra, surplus = (
            int((entry / f"{name}_hugepages").read_text())
            for name in ("nr", "free", "nr_overcommit", "surplus")
        )
        room = max(0, extra - surplus)
        pages[kib << 10] = PageCount(total=total + room, free=free + room)
    return HugePages(default=default, pages=pages)


def find_room(meminfo: Path = Path("/proc/meminfo"), cpuinfo: Path = Path("/proc/cpuinfo")) -> Room:
    """RAM and swap, and how many bits an address has."""
    words = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    ram, swap = (int(words[key].split()[0]) << 10 for key in ("MemTotal", "SwapTotal"))
    bits = re.search(r"^address sizes\s*: (\d+) bits physical", cpuinfo.read_text(), re.MULTILINE)
    return Room(ram=ram, swap=swap, address_bits=int(bits[1]) if bits else None)


def _ask_emulators(spec: Spec, state: StateDir, programs: Mapping[str, Path]) -> dict[str, Any]:
    """What the QEMUs of a document have, or why one cannot be asked."""
    default = programs.get("qemu-system-x86_64")
    emulators: dict[Path, Emulator] = {}
    errors: dict[Path, str] = {}
    for binary in {vm.emulator or default for vm in spec.vms.values()}:
        if binary is None:
            continue
        try:
            emulators[binary] = find_emulator(binary, state.capabilities)
        except MachineError as error:
            errors[binary] = error.message
    return {"emulators": emulators, "emulator_errors": errors}


def find_firmwares(directories: Sequence[Path] | None = None) -> tuple[Firmware, ...]:
    """The UEFI firmwares that are installed; what an administrator or user has goes first."""
    if directories is None:
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        directories = (*_FIRMWARE_PLACES, Path(config) / "qemu/firmware")
    return parse_firmwares(dict(_read_descriptors(directory)) for directory in directories)


def _read_descriptors(directory: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(directory.glob("*.json")):
        try:
            yield path.name, path.read_text()
        except (OSError, UnicodeDecodeError):
            continue


def _uses_firmwares(spec: Spec) -> bool:
    return any(
        vm.firmware.type is FirmwareType.UEFI and vm.firmware.code is None
        for vm in spec.vms.values()
    )


def _uses_hugepages(spec: Spec) -> bool:
    return any(
        backend.hugepages
        for vm in spec.vms.values()
        for backend in (
            vm.memory.backend,
            *(cell.backend for cell in vm.numa),
            *(device.backend for device in vm.memory.devices),
        )
    )


def _find_devices(spec: Spec) -> dict[str, Any]:
    """Nothing where no guest shall have any."""
    if not any(vm.hostdevs for vm in spec.vms.values()):
        return {}
    return {
        "host_pci": find_host_pci(),
        "host_usb": find_host_usb(),
        "mdevs": find_mdevs(),
        "scsi_generic": find_scsi_generic(),
    }


def find_io_uring() -> bool:
    """Whether the kernel has io_uring and lets us use it (io_uring_setup(2)).

    With no parameters at all it fails in any case: by EFAULT or EINVAL where it is allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_IO_URING_SETUP, 1, None)
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM, errno.EACCES)


def _find_block_devices(images: Mapping[Path, Image]) -> Iterator[Path]:
    for image in images.values():
        for info in image.chain:
            try:
                if stat.S_ISBLK(info.path.stat().st_mode):
                    yield info.path
            except OSError:
                pass


def _find_network(spec: Spec) -> HostNetwork:
    """Nothing where the document has no network: looking costs pyroute2's import."""
    if not spec.networks and not any(vm.nics for vm in spec.vms.values()):
        return HostNetwork(links=(), addresses=(), routes=(), forwarding=False)
    from qorch_net.probe import find_host  # noqa: PLC0415  120 ms

    return find_host()


def _find_images(spec: Spec) -> Iterator[tuple[Path, Image]]:
    for path, format_ in _named_images(spec):
        try:
            yield path, Image(chain=find_chain(path, format_))
        except StorageError as error:
            yield (
                path,
                Image(chain=(_describe(path, format_),), error=error.message, hint=error.hint),
            )


def _describe(path: Path, format_: ImageFormat | None) -> ImageInfo:
    """An image that cannot be read, as the spec has it."""
    format_ = format_ or find_format(path) or ImageFormat.RAW
    return ImageInfo(path=path, format=format_, header_format=format_, virtual_size=0, allocation=0)


def _named_images(spec: Spec) -> Iterator[tuple[Path, ImageFormat | None]]:
    disks = [disk for vm in spec.vms.values() for disk in vm.disks]
    for disk in disks:
        if disk.path is not None:
            yield disk.path, disk.format
        for image in disk.chain:
            if image.path is not None:
                yield image.path, image.format
    volumes: list[DiskSpec | VolumeSpec] = [*disks, *spec.volumes.values()]
    for volume in volumes:
        if volume.backing is not None:
            yield volume.backing, volume.backing_format


def _find_files(spec: Spec) -> Iterator[tuple[Path, File]]:
    for vm in spec.vms.values():
        yield from ((path, _find_file(path, content=False)) for path in name_files(vm).values())
        yield from ((path, _find_file(path, content=True)) for path in name_text_files(vm).values())
        yield from ((path, _find_device(path)) for path in name_devices(vm).values())
        yield from ((path, _find_directory(path)) for path in name_places(vm).values())
        for share in vm.shares:
            if share.path is not None:
                yield share.path, _find_directory(share.path)


def _find_directory(path: Path) -> File:
    try:
        with os.scandir(path):
            return File()
    except OSError as error:
        return File(error=f"{path}: {error.strerror}")


def _find_device(path: Path) -> File:
    """Not opened: some devices do something then."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return File(error=f"{path}: {error.strerror}")
    if not stat.S_ISCHR(mode):
        return File(error=f"{path} is not a character device")
    return File() if os.access(path, os.R_OK) else File(error=f"{path}: Permission denied")


def _find_file(path: Path, *, content: bool) -> File:
    try:
        with path.open("rb") as file:
            data = file.read(_TEXT_MAX if content else len(_ELF))
        return File(text=data.decode()) if content else File(elf=data == _ELF)
    except UnicodeDecodeError:
        return File(error=f"{path} is not a text file")
    except OSError as error:
        return File(error=f"{path}: {error.strerror}")
