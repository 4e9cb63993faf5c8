"""A host that is not there: fixed facts, for what is tested on any machine."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path

import attrs

from qorch.facts import Facts, File, HostPci, HostUsb, Image, Kvm
from qorch.firmware import Firmware
from qorch.load import load_text
from qorch.paths import StateDir
from qorch.plan import Defined, make_plan
from qorch.plan.files import name_devices, name_files, name_places, name_text_files
from qorch.spec import Spec
from qorch_net.host import Address, HostNetwork, Link
from qorch_storage.image import ImageInfo
from qorch_storage.plan import Backing, ImageFormat, find_format

ROOT = Path("/golden")
PROGRAMS = {
    "swtpm": Path("/usr/bin/swtpm"),
    "virtiofsd": Path("/usr/lib/qemu/virtiofsd"),
    "passt": Path("/usr/bin/passt"),
    "qemu-system-x86_64": Path("/usr/bin/qemu-system-x86_64"),
    "qemu-img": Path("/usr/bin/qemu-img"),
    "dnsmasq": Path("/usr/sbin/dnsmasq"),
}
_OVMF = Path("/usr/share/OVMF")
FIRMWARES = tuple(
    Firmware(
        name=f"{name}.json",
        code=Backing(path=_OVMF / f"OVMF_CODE_4M{code}.fd", format=ImageFormat.RAW),
        template=Backing(path=_OVMF / f"OVMF_VARS_4M{keys}.fd", format=ImageFormat.RAW),
        machines=machines,
        features=frozenset(features),
    )
    for name, code, keys, machines, features in (
        ("40-keys", ".ms", ".ms", ("pc-q35-*",), {"secure-boot", "requires-smm", "enrolled-keys"}),
        ("50-secure", ".secboot", "", ("pc-q35-*",), {"secure-boot", "requires-smm"}),
        ("60-plain", "", "", ("pc-i440fx-*", "pc-q35-*"), ()),
    )
)
KVM = Kvm(error=None, hardware=True)
NO_KVM = Kvm(error="/dev/kvm does not open: No such file or directory", hardware=False)
SOFT_KVM = Kvm(error=None, hardware=False)
USB = (
    HostUsb(bus=1, device=4, vendor=0x046D, product=0x0825, name="Webcam"),
    HostUsb(bus=2, device=1, vendor=0x1234, product=0xBEEF),
)
NETWORK = HostNetwork(
    links=(
        Link(index=1, name="lo", up=True),
        Link(index=2, name="eth0", up=True, mac="52:54:00:00:00:01", mtu=1500),
    ),
    addresses=(Address(interface="eth0", ip=IPv4Interface("10.0.2.15/24")),),
    routes=(),
    forwarding=False,
)


def make_facts(spec: Spec | None = None, *, root: Path = ROOT, **changes) -> Facts:
    """A host with two CPUs, KVM and every program; what `spec` names is there.

    An image NAME.over-BASE has the backing file BASE, beside it.
    """
    spec = spec or Spec()
    values = {
        "state": StateDir(root / "run", root / "data"),
        "host_id": "golden",
        "cpus": frozenset({0, 1}),
        "kvm": KVM,
        "programs": PROGRAMS,
        "network": NETWORK,
        "images": {path: Image(chain=_make_chain(path, form)) for path, form in _images(spec)},
        "files": dict(_files(spec)),
        "volumes": frozenset(),
        "firmwares": FIRMWARES,
        "io_uring": True,
        "vhost_net": True,
        "host_pci": {"0000:06:12.5": HostPci(driver="vfio-pci", group="7")},
        "host_usb": USB,
        "mdevs": frozenset({"53764d0e-85a0-42b4-af5c-2046b460b1dc"}),
        "scsi_generic": {"0:0:2:0": Path("/dev/sg3")},
        "places": frozenset({root}),  # a pool, so what is in it may build on each other
    }
    return Facts(**{**values, **changes})


def plan_text(text: str, *, defined: Defined | None = None, root: Path = ROOT, **changes):
    """The plan of a document on the fake host."""
    spec = load_text(text, root)
    return make_plan(spec, make_facts(spec, root=root, **changes), defined or Defined())


def make_image(path: Path, image_format: ImageFormat, backing: Path | None = None) -> ImageInfo:
    """An image of 64 MiB."""
    return ImageInfo(
        path=path,
        format=image_format,
        header_format=image_format,
        virtual_size=64 << 20,
        allocation=0,
        backing_file=backing and str(backing),
        backing_format=backing and find_format(backing),
    )


def without(*programs: str) -> dict[str, Path]:
    """The programs, less these."""
    return {name: path for name, path in PROGRAMS.items() if name not in programs}


def with_address(interface: str, ip: str) -> HostNetwork:
    """The network of a host that has one more address."""
    address = Address(interface=interface, ip=IPv4Interface(ip))
    return attrs.evolve(NETWORK, addresses=(*NETWORK.addresses, address))


def _make_chain(path: Path, image_format: ImageFormat | None) -> tuple[ImageInfo, ...]:
    below = path.name.partition(".over-")[2]
    base = path.with_name(below) if below else None
    image = make_image(path, image_format or find_format(path), base)
    return (image, *(_make_chain(base, None) if base else ()))


def _images(spec: Spec):
    disks = [disk for vm in spec.vms.values() for disk in vm.disks]
    yield from ((disk.path, disk.format) for disk in disks if disk.path)
    below = [image for disk in disks for image in disk.chain]
    yield from ((image.path, image.format) for image in below if image.path)
    for volume in (*disks, *spec.volumes.values()):
        if volume.backing:
            yield volume.backing, volume.backing_format


def _files(spec: Spec):
    for vm in spec.vms.values():
        yield from ((path, File()) for path in name_files(vm).values())
        yield from ((share.path, File()) for share in vm.shares if share.path)
        yield from ((path, File()) for path in name_devices(vm).values())
        yield from ((path, File()) for path in name_places(vm).values())
        text = "# ours\nssh-ed25519 AAAAC3Nz from-file\n"
        yield from ((path, File(text=text)) for path in name_text_files(vm).values())
