from pathlib import Path

import pytest

from qorch.errors import InputError
from qorch.load import load_text


def refuse(text):
    """The problems of a machine with a kernel, by path below it."""
    with pytest.raises(InputError) as caught:
        load_text(f"[vm.a]\nkernel = 'k'\n{text}", Path("/here"))
    problems = caught.value.problems
    return {problem.path.removeprefix("vm.a"): problem.message for problem in problems}


@pytest.mark.parametrize(
    ("disk", "path", "message"),
    [
        ("device = 'cdrom', bus = 'virtio'", ".bus", "a cdrom cannot be on virtio"),
        ("device = 'cdrom', bus = 'nvme'", ".bus", "a cdrom cannot be on nvme"),
        ("path = '/dev/sda', format = 'raw', device = 'lun', bus = 'sata'", ".bus", "a lun cannot"),
        ("path = 'a.raw', bus = 'sata', queues = 2", ".queues", "a disk on sata has none"),
        ("path = 'a.raw', bus = 'ide', iothread = 'x'", ".iothread", "there is no iothread 'x'"),
        ("path = 'a.raw', iothread = 'x'", ".iothread", "there is no iothread 'x'"),
        ("path = 'a.raw', vendor = 'x'", ".vendor", "a disk on virtio has none"),
        (
            "path = 'a.raw', serial = '1234567890123456789012345678901234567'",
            ".serial",
            "is not 1 to 36",
        ),
        ("path = 'a.raw', bus = 'scsi', wwn = '12'", ".wwn", "16 hexadecimal digits"),
        ("path = 'a.raw', aio = 'native', cache = 'writeback'", ".aio", "bypasses the host"),
        ("path = 'a.raw', passphrase_file = 's'", ".passphrase_file", "raw images are not"),
        ("path = 'a.luks'", ".passphrase_file", "is missing"),
        ("url = 'gopher://x/y'", ".url", "is none of"),
        ("path = 'a.raw', logical_block_size = '1000B'", ".logical_block_size", "power of two"),
        ("path = 'a.raw', bus = 'scsi', virtio = { packed = true }", ".virtio", "is not virtio"),
        (
            "path = 'a.raw', throttle = { bps_total = 1, bps_read = 1 }",
            ".throttle.bps_total",
            "is given with those of directions",
        ),
        ("path = 'a.raw', iothreads = [{ id = 'x' }]", ".iothreads[0].id", "is no iothread 'x'"),
        ("path = 'a.raw', bus = 'scsi', iothreads = [{ id = 'x' }]", ".iothreads", "on scsi has"),
        (
            "path = 'a.raw', iothread = 'x', iothreads = [{ id = 'x' }]",
            ".iothreads",
            "is given with iothread",
        ),
        (
            "path = 'a.raw', iothreads = [{ id = 'x', queues = [0] }, { id = 'y' }]",
            ".iothreads[1].queues",
            "for some threads only",
        ),
        (
            "path = 'a.raw', queues = 2, iothreads = [{ id = 'x', queues = [1] }]",
            ".iothreads",
            "do not serve each",
        ),
        (
            "vhost_user = { backend = { path = '/s' } }, cache = 'none'",
            ".cache",
            "is the vhost-user process's",
        ),
        ("vhost_user = { backend = 'pty' }", ".vhost_user.backend", "is no Unix socket"),
        ("vhost_user = { backend = { path = '/s' } }, path = 'a.raw'", "", "is not one of"),
        ("vhost_user = { backend = { path = '/s' } }, bus = 'ide'", ".vhost_user", "on ide has"),
    ],
)
def test_a_disk_that_makes_no_sense_is_refused(disk, path, message):
    """With the key that is at fault."""
    assert message in refuse(f"disk = [{{ {disk} }}]")[f".disk[0]{path}"]


@pytest.mark.parametrize(
    ("nic", "path", "message"),
    [
        ("user = {}, tap = 't'", ".tap", "is on user already"),
        ("model = 'e1000', queues = 2", ".queues", "e1000 has none"),
        ("model = 'rtl8139', offloads = { csum = false }", ".offloads", "is not virtio"),
        ("user = {}, queues = 2", ".queues", "only taps"),
        ("user = {}, vhost = true", ".vhost", "goes with a tap"),
        ("user = {}, ip = '10.0.0.2'", ".ip", "goes with a network"),
        ("socket = { type = 'connect', port = 1 }", ".socket.host", "is missing"),
        ("socket = { type = 'mcast', path = 's' }", ".socket.path", "cannot mcast"),
        ("rom = false, rom_file = 'r'", ".rom_file", "leaves ROMs out"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(nic, path, message):
    """With the key that is at fault."""
    assert message in refuse(f"nic = [{{ {nic} }}]")[f".nic[0]{path}"]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("serial = [{ backend = 'file' }]", ".serial[0].backend.path", "is missing"),
        ("serial = [{ backend = 'tcp' }]", ".serial[0].backend.port", "is missing"),
        ("channel = [{ name = 'a' }, { name = 'a' }]", ".channel[1].name", "channel[0]'s already"),
        ("channel = [{ name = 'a', backend = 'spicevmc' }]", ".channel[0].backend.type", "SPICE"),
        (
            "console = { device = 'none' }\nready = { console = 'x' }",
            ".ready.console",
            "no console",
        ),
        ("vnc = { port = 80 }", ".vnc.port", "is not 5900 to 65535"),
        ("vnc = { socket = 's', port = 5900 }", ".vnc.socket", "with an address or port"),
        ("video = [{}, { model = 'cirrus' }]", ".video[1].model", "only be the first"),
        ("video = [{ heads = 2 }]", ".video[0].heads", "has one screen"),
        ("input = [{ model = 'input-linux' }]", ".input[0].evdev", "is missing"),
        ("rng = [{ backend = 'rng-egd' }]", ".rng[0].egd", "is missing"),
        ("machine = 'pc'\nwatchdog = [{ model = 'itco' }]", ".watchdog[0].model", "q35 chipset"),
        ("watchdog = [{}, { action = 'pause' }]", ".watchdog[1].action", "one action"),
        ("machine = 'pc'\niommu = {}", ".iommu.model", "needs q35"),
        ("iommu = { aw_bits = 40 }", ".iommu.aw_bits", "40 is neither 39 nor 48"),
        ("shmem = [{ name = 'a', size = '3MiB' }]", ".shmem[0].size", "no power of two"),
        ("hostdev = [{ host = 'x' }]", ".hostdev[0].host", "is no PCI address"),
        ("hostdev = [{ type = 'usb', vendor = 1 }]", ".hostdev[0]", "does not say which"),
        ("hostdev = [{ type = 'mdev', host = 'x' }]", ".hostdev[0].host", "is no UUID"),
        ("smartcard = [{}]", ".smartcard[0].backend", "is missing"),
        (
            "disk = [{ path = 'a.raw', bootindex = 1 }]\nnic = [{ bootindex = 1 }]",
            ".nic[0].bootindex",
            "1 is disk[0]'s already",
        ),
    ],
)
def test_a_device_that_makes_no_sense_is_refused(text, path, message):
    """With the key that is at fault."""
    assert message in refuse(text)[path]
