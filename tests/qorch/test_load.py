from pathlib import Path

import pytest

from qorch.errors import InputError
from qorch.load import load_document, load_text, resolve_paths
from qorch.spec import MachineSpec, NetworkSpec, Spec
from qorch.units import CpuSet, Size

HERE = Path("/here")
KERNEL = 'kernel = "k"\n'


def find_problems(text):
    """The problems of a document by path, and the error itself."""
    with pytest.raises(InputError) as caught:
        load_text(text, HERE)
    return {problem.path: problem for problem in caught.value.problems}


def test_the_smallest_file():
    """A machine with a kernel needs nothing else."""
    spec = load_text("[vm.web]\n" + KERNEL, HERE)
    assert spec.vms == {"web": MachineSpec(kernel=HERE / "k")}


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[vm]\n"])
def test_a_file_that_describes_nothing(text):
    """Is not the one that was meant; a program may well have nothing to ask for."""
    problem = find_problems(text)["vm.toml"]
    assert (problem.message, problem.hint) == (
        "describes nothing",
        "a machine is a table [vm.NAME]",
    )
    assert load_document({}, HERE) == Spec()


def test_short_forms_mean_the_long_ones():
    """`cpus` and `memory` are short for their tables, which may be there beside them."""
    short = load_text(f'[vm.web]\n{KERNEL}cpus = 2\nmemory = "1GiB"\ncpu.model = "max"', HERE)
    long = load_text(
        f'[vm.web]\n{KERNEL}[vm.web.cpu]\ncount = 2\nmodel = "max"\n[vm.web.memory]\nsize = "1GiB"',
        HERE,
    )
    assert short == long


def test_relative_paths_start_at_the_file():
    """Wherever a path stands; absolute ones stay, and `~` is the user's home."""
    text = """
[vm.web]
kernel = "../k"
[[vm.web.disk]]
path = "/abs/d.raw"
[[vm.web.disk]]
backing = "b.qcow2"
[vm.web.cloud_init]
user = [{ name = "a", ssh_key_files = ["~/key"] }]
[pool.fast]
path = "pool"
"""
    spec = load_text(text, HERE)
    web = spec.vms["web"]
    assert web.kernel == HERE / "../k"
    assert [disk.path or disk.backing for disk in web.disks] == [
        Path("/abs/d.raw"),
        HERE / "b.qcow2",
    ]
    assert web.cloud_init.users[0].ssh_key_files == (Path("~/key").expanduser(),)
    assert spec.pools["fast"].path == HERE / "pool"
    assert resolve_paths(spec, Path("/elsewhere")) == spec


def test_pins_are_sets_of_cpus():
    """A pin is a number or the kernel's list, one per vCPU, or leaves it be."""
    spec = load_text(f'[vm.web]\n{KERNEL}cpu = {{ count = 3, pin = [1, "0-2", "any"] }}', HERE)
    assert spec.vms["web"].cpu.pin == (CpuSet([1]), CpuSet([0, 1, 2]), CpuSet())


def test_broken_toml_names_the_file_and_the_place():
    """The parser's own words, with line and column, and a hint."""
    with pytest.raises(InputError, match=r"^vm\.toml: not TOML: .*line 1") as caught:
        load_text("[vm.web\n", HERE)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ('[vm.web]\nmemry = "1GiB"', "vm.web.memry", "did you mean 'memory'?"),
        ("[vm.web]\ncpuss = 1", "vm.web.cpuss", "did you mean 'cpus'?"),
        ("[[vm.web.disks]]", "vm.web.disks", "did you mean 'disk'?"),
        ('[[vm.web.nic]]\nnetwrk = "lan"', "vm.web.nic[0].netwrk", "did you mean 'network'?"),
        ("[networks.lan]", "networks", "did you mean 'network'?"),
        ("[vm.web]\nqqqq = 1", "vm.web.qqqq", "known keys: machine, "),
    ],
)
def test_an_unknown_key_brings_the_nearest_known_one(text, path, hint):
    """Unknown keys are errors at every level, with what was probably meant."""
    problem = find_problems(text)[path]
    assert problem.message == "unknown key"
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("line", "path", "message"),
    [
        ('cpus = "2"', "cpu.count", "'2' is not a whole number"),
        ("cpus = 2.0", "cpu.count", "2.0 is not a whole number"),
        ("cpus = true", "cpu.count", "true is not a whole number"),
        ('sandbox = "no"', "sandbox", "'no' is not true or false"),
        ("sandbox = 1", "sandbox", "1 is not true or false"),
        ("rng = 1", "rng", "1 is not a list"),
        ("append = 5", "append", "5 is not a string"),
        (r'append = "a\u0000b"', "append", "contains a NUL"),
        ('initrd = ""', "initrd", "'' is not a path"),
        ("initrd = 5", "initrd", "5 is not a path"),
        ('machine = "vax"', "machine", "'vax' is no machine type"),
        ("accel = true", "accel", "true is none of auto, kvm, tcg"),
        ('uuid = "x"', "uuid", "'x' is not a UUID"),
        ("memory = 512", "memory.size", 'has no unit: write "512MiB"'),
        ('memory = "10Q"', "memory.size", "'10Q' is not a size"),
        ("memory = true", "memory.size", "True is not a size"),
        ("powerdown_timeout = 5", "powerdown_timeout", "5 is not a duration"),
        ('disk = { size = "1GiB" }', "disk", "is not a list"),
        ('disk = ["a"]', "disk[0]", "'a' is not a table"),
        ('disk = [{ path = "a", format = "qcow" }]', "disk[0].format", "is none of raw, qcow2"),
        ('disk = [{ path = "a", read_only = "no" }]', "disk[0].read_only", "not true or false"),
        ('nic = [{ mac = "x" }]', "nic[0].mac", "is not a MAC address"),
        ("nic = [{ ip = 5 }]", "nic[0].ip", "5 is not an IPv4 address"),
        ('nic = [{ ip = "10.0.0.256" }]', "nic[0].ip", "is not an IPv4 address"),
        ('cpu = { pin = "0-1" }', "cpu.pin", "'0-1' is not a list"),
        ('cpu = { pin = ["a"] }', "cpu.pin[0]", "'a' is not a set of CPUs"),
        ("ready = { tcp = '80' }", "ready.tcp", "'80' is not a whole number"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(line, path, message):
    """Nothing is converted silently; the path says where and the message what."""
    assert message in find_problems(f"[vm.web]\n{KERNEL}{line}\n")[f"vm.web.{path}"].message


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("vm = 3", "vm", "3 is not a table"),
        ("vm.web = 3", "vm.web", "3 is not a table"),
        ("[[vm.web]]", "vm.web", "is not a table"),
        ("[pool.fast]", "pool.fast.path", "is missing"),
        ("[vm.web]\ncpus = 2\ncpu.count = 2", "vm.web", "say the same thing"),
        ('[network.lan]\nmode = "nta"', "network.lan.mode", "'nta' is none of nat"),
        ('[network.lan]\nsubnet = "10.0.0.1/24"', "network.lan.subnet", "not an IPv4 subnet"),
        ('[network.lan]\nforward = [{ vm = "a" }]', "network.lan.forward[0].host_port", "missing"),
        ("[network.lan]\ndhcp = 3", "network.lan.dhcp.enabled", "not true or false"),
    ],
)
def test_a_table_that_is_none_or_lacks_something_is_refused(text, path, message):
    """Tables are tables, and what they must have is asked for."""
    assert message in find_problems(text)[path].message


@pytest.mark.parametrize(
    ("line", "path", "hint"),
    [
        ("vnc = true", "vm.web.vnc", "{} is one as it comes"),
        ("cpu = 2", "vm.web.cpu", "write it as { count = … }, or under a [header] of its own"),
        ("input = ['x']", "vm.web.input[0]", "write it as { model = … }"),
        ("disk.size = '1GiB'", "vm.web.disk", "there may be several: [[…]] above the keys of each"),
        ("firmware = 'UEFI'", "vm.web.firmware.type", "did you mean 'uefi'?"),
        ("append = ['a']", "vm.web.append", "it is one text, in quotes"),
        ("append = true", "vm.web.append", 'put it in quotes: "true"'),
        ("bridge = 'br0'", "vm.web.bridge", "known keys: machine, "),
    ],
)
def test_a_hint_says_how_it_is_written(line, path, hint):
    """In the words of the file, not of a program that read it."""
    assert find_problems(f"[vm.web]\n{KERNEL}{line}\n")[path].hint.startswith(hint)


@pytest.mark.parametrize("name", ["Web", "my_vm", "-a", "a" * 64, "", "a/b", "ä"])
def test_a_name_that_is_no_host_name_is_refused(name):
    """Names of all four kinds are labels of host names."""
    for table, rest in (("vm", KERNEL), ("network", ""), ("pool", 'path = "p"')):
        problem = find_problems(f'[{table}."{name}"]\n{rest}')[f"{table}.{name}"]
        assert "no valid host name" in problem.message


def test_all_problems_of_a_file_are_shown_at_once():
    """Each with its path, the bad name no less than what stands below it."""
    text = '[vm.Web]\nmemory = "10Q"\nmemry = 1\n[[vm.Web.disk]]\nsize = 5\n[network.lan]\nx = 1'
    problems = find_problems(text)
    assert set(problems) == {
        "vm.Web",
        "vm.Web.memry",
        "vm.Web.memory.size",
        "vm.Web.disk[0].size",
        "network.lan.x",
    }


def test_an_error_has_every_problem_and_every_hint():
    """Its text is one line per problem; a hint is said once."""
    with pytest.raises(InputError) as caught:
        load_text("[vm.a]\nmemry = 1\n[vm.b]\nmemry = 1\n", HERE)
    assert str(caught.value).splitlines() == [
        "vm.a.memry: unknown key",
        "vm.b.memry: unknown key",
    ]
    assert caught.value.hint == "did you mean 'memory'?"


def test_a_parsed_document_loads_as_its_text_does():
    """The API takes JSON of the same form."""
    document = {"vm": {"web": {"kernel": "k", "memory": "1GiB"}}, "network": {"lan": {}}}
    spec = load_document(document, HERE)
    assert spec.vms["web"].memory.size == Size(1 << 30)
    assert spec.networks == {"lan": NetworkSpec()}
