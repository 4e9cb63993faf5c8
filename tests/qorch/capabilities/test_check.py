from pathlib import Path

import attrs
import goldens
import pytest
from fake_host import plan_text

from qorch.capabilities.ask import find_emulator
from qorch.capabilities.check import (
    FULL_CPU,
    find_cpu_lacks,
    find_drivers,
    find_feature_lacks,
    find_lacks,
)
from qorch.capabilities.values import Emulator, MachineInfo
from qorch.errors import InputError
from qorch.plan import Defined

QEMU = Path("/usr/bin/qemu-system-x86_64")
EMULATOR = Emulator(
    version="9.1.0",
    machines={
        "pc-q35-9.1": MachineInfo(alias="q35", max_cpus=288, hotpluggable_cpus=True),
        "pc-q35-9.0": MachineInfo(max_cpus=288, hotpluggable_cpus=True),
        "microvm": MachineInfo(max_cpus=2),
    },
    cpu_models=frozenset({"max", "host", "Nehalem"}),
    types=frozenset(),
)
NEWER = Emulator(
    version="10.0.0",
    machines={"pc-q35-10.0": MachineInfo(alias="q35", max_cpus=288)},
    cpu_models=frozenset({"max", "host"}),
    types=frozenset(),
)
WEB = "[vm.web]\nkernel = 'k'\n"


def plan(lines="", emulator=EMULATOR, defined=None):
    """The plan of a document for a QEMU."""
    return plan_text(WEB + lines, emulators={QEMU: emulator}, defined=defined)


def refuse(lines, **others):
    """The problems of a machine by path."""
    with pytest.raises(InputError) as caught:
        plan(lines, **others)
    return {problem.path: problem for problem in caught.value.problems}


def test_the_versioned_machine_type_is_kept():
    """A newer QEMU gives no newer hardware to a guest that is defined."""
    first = plan(emulator=EMULATOR)
    assert first.machines["web"].machine == "pc-q35-9.1"
    both = Emulator(
        version="10.0.0",
        machines={**NEWER.machines, "pc-q35-9.1": MachineInfo(max_cpus=288)},
        cpu_models=NEWER.cpu_models,
        types=NEWER.types,
    )
    defined = Defined(machines=first.machines)
    assert plan(emulator=both, defined=defined).machines["web"].machine == "pc-q35-9.1"
    assert plan(emulator=both).machines["web"].machine == "pc-q35-10.0"
    explicit = plan("machine = 'pc-q35-10.0'", emulator=both, defined=defined)
    assert explicit.machines["web"].machine == "pc-q35-10.0"


def test_a_machine_type_that_is_gone_is_refused():
    """Rather than changed: the guest is told how to have newer hardware."""
    defined = Defined(machines=plan().machines)
    problem = refuse("", emulator=NEWER, defined=defined)["vm.web.machine"]
    assert problem.message == "QEMU 10.0.0 has no machine type pc-q35-9.1"
    assert 'machine = "pc-q35-10.0"' in problem.hint
    problem = refuse("machine = 'pc-q35-9.2'")["vm.web.machine"]
    assert problem.hint == "did you mean 'pc-q35-9.1'?"


@pytest.mark.parametrize(
    ("lines", "path", "message", "hint"),
    [
        ("cpus = 300", ".cpu.count", "300 vCPUs: a pc-q35-9.1 takes up to 288", "count = 288"),
        ("cpu = { max = 289 }", ".cpu.max", "289 vCPUs: a pc-q35-9.1 takes up to 288", "max = 288"),
        (
            "machine = 'microvm'\ncpus = 3",
            ".cpu.count",
            "3 vCPUs: a microvm takes up to 2",
            "count = 2",
        ),
        (
            "cpu.model = 'Nehalen'",
            ".cpu.model",
            "QEMU 9.1.0 has no CPU model 'Nehalen'",
            "did you mean 'Nehalem'?",
        ),
    ],
)
def test_what_qemu_lacks_is_refused_by_name(lines, path, message, hint):
    """VCPUs and CPU models."""
    problem = refuse(lines)[f"vm.web{path}"]
    assert (problem.message, problem.hint) == (message, hint)


def test_devices_objects_and_properties_that_qemu_lacks_are_named():
    """With their place in the file, and the nearest name there is."""
    machine = plan("guest_agent = true\nshare = [{ type = '9p', path = 'd', tag = 't' }]")
    (web,) = machine.machines.values()
    drivers = find_drivers(web)
    assert {"virtio-9p-pci", "virtio-serial-pci", "virtio-rng-pci"} <= set(drivers)
    has = Emulator(
        version="9.1.0",
        machines={},
        cpu_models=frozenset(),
        types=frozenset({*drivers, "virtio-rnd-pci", "rng-builtin"} - {"virtio-rng-pci"}),
        properties={"virtio-9p-pci": frozenset({"fsdev", "mount-tag", "addr"})},
    )
    problems = {problem.message: problem for problem in find_lacks(web, has)}
    device = problems["QEMU 9.1.0 has no device 'virtio-rng-pci'"]
    assert (device.path, device.hint) == ("vm.web.rng[0]", "did you mean 'virtio-rnd-pci'?")
    object_ = problems["QEMU 9.1.0 has no object 'rng-random'"]
    assert object_.path == "vm.web.rng[0]"
    name = problems["QEMU 9.1.0 has no property 'mount_tag' of virtio-9p-pci"]
    assert (name.path, name.hint) == ("vm.web.share[0]", "did you mean 'mount-tag'?")
    assert len(problems) == 3


def test_cpu_features_that_qemu_lacks_are_named(tmp_path):
    """Flags and properties; those that it has, by older spellings too, are not."""
    cpu = "flags = ['+sse4_1', '-sse4.2', '+svn'], properties = { hv_relaxed = true, foo = 1 }"
    (web,) = plan(f"cpu = {{ {cpu} }}").machines.values()
    emulator = find_emulator(QEMU, tmp_path, [FULL_CPU])
    problems = {problem.path: problem for problem in find_cpu_lacks(web, emulator)}
    assert problems.keys() == {"vm.web.cpu.flags[2]", "vm.web.cpu.properties.foo"}
    flag = problems["vm.web.cpu.flags[2]"]
    assert flag.message == f"QEMU {emulator.version} has no CPU feature 'svn'"
    assert flag.hint == "did you mean 'svm'?"


def test_the_installed_qemu_lacks_nothing_of_the_goldens(tmp_path):
    """Devices and properties that it takes are not refused."""
    machines = {name: goldens.plan_golden(name) for name in goldens.find_names()}
    drivers = [driver for machine in machines.values() for driver in find_drivers(machine)]
    emulator = find_emulator(QEMU, tmp_path, [*drivers, FULL_CPU])
    lacks = {
        name: [*find_lacks(machine, emulator), *find_cpu_lacks(machine, emulator)]
        for name, machine in machines.items()
    }
    assert {name: found for name, found in lacks.items() if found} == {}


def test_options_and_defaults_that_qemu_lacks_are_named():
    """QEMU itself ends over the ones, and takes the others without a word."""
    text = """
    [vm.web.features.options]
    usb = true
    nvdim = true
    "smp.clusters" = 1
    kernel_irqchip = "on"
    [vm.web.features.globals]
    "virtio-blk-pci.scsi" = true
    "virtio-blk-pci.drve" = 1
    "virtoi-pci.x" = 1
    "cfi.pflash01.secure" = true
    """
    machine = plan(text).machines["web"]
    emulator = attrs.evolve(
        EMULATOR,
        types=frozenset({"virtio-pci"}),
        properties={
            "pc-q35-9.1-machine": frozenset({"usb", "nvdimm", "smp"}),
            "virtio-blk-pci": frozenset({"scsi", "drive"}),
            "virtoi-pci": None,
            "cfi.pflash01": frozenset({"secure"}),
        },
    )
    found = {item.path: item for item in find_feature_lacks(machine, emulator)}
    features = "vm.web.features"
    assert {path: item.hint for path, item in found.items()} == {
        f"{features}.options.nvdim": "did you mean 'nvdimm'?",
        f"{features}.globals.virtio-blk-pci.drve": "did you mean 'drive'?",
        f"{features}.globals.virtoi-pci.x": "did you mean 'virtio-pci'?",
    }
    assert list(find_feature_lacks(machine, EMULATOR)) == []  # what was not asked is not known


def test_a_qemu_that_does_not_answer_is_refused():
    """The default one, and one that the file names."""
    errors = {QEMU: "it is no QEMU", Path("/golden/mine"): "nor is this"}
    for line, message in (("", "it is no QEMU"), ("emulator = 'mine'", "nor is this")):
        with pytest.raises(InputError) as caught:
            plan_text(WEB + line, emulator_errors=errors)
        (problem,) = caught.value.problems
        assert (problem.path, problem.message) == ("vm.web.emulator", message)
        assert "--version" in problem.hint
