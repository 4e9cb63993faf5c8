from pathlib import Path

import pytest

from qorch.check import find_problems
from qorch.errors import InputError
from qorch.load import load_text
from qorch.spec import MachineSpec, Spec

KERNEL = 'kernel = "k"\n'


def check(text):
    """The messages of a document's problems by path."""
    with pytest.raises(InputError) as caught:
        load_text(text, Path("/here"))
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("lines", "path", "message"),
    [
        ("", "", "has nothing to boot from"),
        ('initrd = "i"\ndisk = [{ path = "d.raw" }]', ".initrd", "goes with a kernel"),
        ('append = "a"\ndisk = [{ path = "d.raw" }]', ".append", "goes with a kernel"),
        (KERNEL + "cpus = 0", ".cpu.count", "at least one CPU"),
        (KERNEL + "cpu = { count = 2, pin = [0] }", ".cpu.pin", "pins 1 of 2 vCPUs"),
        (KERNEL + 'memory = "1KiB"', ".memory.size", "not a whole number of MiB"),
        (KERNEL + 'memory = "0B"', ".memory.size", "not a whole number of MiB"),
        (KERNEL + 'ready = { console = "a", tcp = 1 }', ".ready", "exclude each other"),
        (KERNEL + 'ready = { console = "(" }', ".ready.console", "not a regular expression"),
        (KERNEL + "ready = { tcp = 65536 }", ".ready.tcp", "is not a TCP port"),
        ("disk = [{}]", ".disk[0]", "is not one of"),
        ('disk = [{ path = "a.raw", size = "1GiB" }]', ".disk[0]", "is not one of"),
        ('disk = [{ volume = "v", path = "a.raw" }]', ".disk[0]", "is not one of"),
        ('disk = [{ path = "image" }]', ".disk[0].path", "may be of any format"),
        ('disk = [{ backing = "image" }]', ".disk[0].backing", "may be of any format"),
        ('disk = [{ size = "1000B" }]', ".disk[0].size", "512-byte sectors"),
        ('disk = [{ size = "0B" }]', ".disk[0].size", "512-byte sectors"),
        (
            'disk = [{ backing = "b.raw", format = "raw" }]',
            ".disk[0].format",
            "raw images have no backing file",
        ),
        (
            'disk = [{ size = "1GiB", serial = "1234567890123456789012345678901234567" }]',
            ".disk[0].serial",
            "1 to 36 characters",
        ),
    ],
)
def test_a_machine_that_makes_no_sense_is_refused(lines, path, message):
    """What no host could make work is refused before any host is looked at."""
    assert message in check(f"[vm.web]\n{lines}\n")[f"vm.web{path}"]


@pytest.mark.parametrize(
    ("lines", "path", "message"),
    [
        ('bridge = "a b"', ".bridge", "no interface name"),
        ('bridge = "sixteencharacter"', ".bridge", "longer than an interface name"),
        ('gateway = "10.0.0.1"', ".gateway", "goes with a subnet"),
        ('dhcp = { start = "10.0.0.2", end = "10.0.0.3" }', ".dhcp", "goes with a subnet"),
        ('subnet = "10.0.0.0/31"', ".subnet", "no room for a guest"),
        ('subnet = "10.0.0.0/24"\ngateway = "10.0.1.1"', ".gateway", "no host address"),
        ('subnet = "10.0.0.0/24"\ngateway = "10.0.0.255"', ".gateway", "no host address"),
        (
            'subnet = "10.0.0.0/24"\ndhcp = { start = "10.0.0.9", end = "10.0.0.8" }',
            ".dhcp",
            "comes after",
        ),
        (
            'subnet = "10.0.0.0/24"\ndhcp = { start = "10.0.0.9", end = "10.0.1.8" }',
            ".dhcp.end",
            "no host address",
        ),
        ('subnet6 = "ff02::/64"', ".subnet6", "not for hosts"),
        ('subnet6 = "fe80::/64"', ".subnet6", "not for hosts"),
        (
            'subnet = "10.0.0.0/24"\nforward = [{ host_port = 80, ip = "10.0.1.5" }]',
            ".forward[0].ip",
            "no host address",
        ),
        (
            'subnet = "10.0.0.0/24"\nforward = [{ host_port = 80, ip = "10.0.0.1" }]',
            ".forward[0].ip",
            "the host itself",
        ),
    ],
)
def test_a_network_that_makes_no_sense_is_refused(lines, path, message):
    """Addresses lie inside their subnet, and names fit into the kernel's."""
    assert message in check(f"[network.lan]\n{lines}\n")[f"network.lan{path}"]


def test_a_volume_needs_a_size_or_something_below_it():
    """A volume of no size is none."""
    assert check("[volume.data]\n") == {"volume.data": "has no size"}


def test_two_cards_cannot_have_one_mac_address():
    """Written in whatever form, in one machine or two."""
    text = f"""
[vm.a]
{KERNEL}nic = [{{ mac = "52:54:00:00:00:AA" }}]
[vm.b]
{KERNEL}nic = [{{}}, {{ mac = "52-54-00-00-00-aa" }}]
"""
    assert check(text) == {
        "vm.b.nic[1].mac": "52:54:00:00:00:aa belongs to vm.a.nic[0] already",
    }


def test_two_cards_of_one_network_cannot_have_one_address():
    """On two networks they can."""
    text = f"""
[vm.a]
{KERNEL}nic = [{{ network = "x", ip = "10.0.0.5" }}, {{ network = "y", ip = "10.0.0.5" }}]
[vm.b]
{KERNEL}nic = [{{ network = "x", ip = "10.0.0.5" }}]
"""
    assert check(text) == {"vm.b.nic[0].ip": "10.0.0.5 belongs to vm.a.nic[0] already"}


def test_subnets_must_not_overlap():
    """A subnet within another one is the same trouble as the same one twice."""
    text = '[network.a]\nsubnet = "10.0.0.0/16"\n[network.b]\nsubnet = "10.0.7.0/24"'
    assert check(text) == {
        "network.b.subnet": "10.0.7.0/24 overlaps 10.0.0.0/16 of network a",
    }


def test_all_problems_come_at_once():
    """Of every machine and network."""
    text = '[vm.a]\n[vm.b]\ncpus = 0\n[network.c]\nbridge = "/"\n[volume.d]\n'
    assert set(check(text)) == {
        "vm.a",
        "vm.b",
        "vm.b.cpu.count",
        "network.c.bridge",
        "volume.d",
    }


def test_names_are_checked_for_those_who_make_specs_themselves():
    """A Spec need not come through the loader."""
    (problem,) = find_problems(Spec(vms={"No Name": MachineSpec(kernel=Path("/k"))}))
    assert (problem.path, "no valid host name" in problem.message) == ("vm.No Name", True)
