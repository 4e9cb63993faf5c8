from pathlib import Path

import pytest

from qorch.errors import InputError
from qorch.load import load_text

NUMA = "memory = '2MiB'\ncpus = 2\n"


def refuse(lines):
    """The messages of a machine's problems by path."""
    with pytest.raises(InputError) as caught:
        load_text(f"[vm.a]\nkernel = 'k'\n{lines}", Path("/here"))
    return {problem.path.removeprefix("vm.a"): problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("lines", "path", "message"),
    [
        ("cpu = { count = 4, max = 2 }", ".cpu.max", "is less than count, 4"),
        ("cpu = { plugged = [1] }", ".cpu.plugged[0]", "vCPU 1 cannot be plugged"),
        ("cpu = { max = 3, plugged = [0] }", ".cpu.plugged[0]", "vCPU 0 cannot be plugged"),
        ("cpu = { max = 3, plugged = [1, 1] }", ".cpu.plugged[1]", "vCPU 1 is there already"),
        ("cpu = { max = 4, pin = [0, 0, 0, 0, 0] }", ".cpu.pin", "pins 5 of 1 vCPUs"),
        ("cpu = { flags = ['vmx'] }", ".cpu.flags[0]", "neither added nor removed"),
        ("cpu = { sockets = 0 }", ".cpu.sockets", "0 sockets are none"),
        ("cpu = { count = 2, clusters = 2 }", ".cpu.clusters", "have no clusters"),
        (
            "cpu = { count = 6, sockets = 2, cores = 2, threads = 2 }",
            ".cpu",
            "2 sockets x 2 cores x 2 threads = 8, which does not make 6 vCPUs (count)",
        ),
        ("cpu = { count = 4, threads = 3 }", ".cpu", "3 threads = 3, which does not make 4 vCPUs"),
        ("cpu = { max = 4, sockets = 3 }", ".cpu", "does not make 4 vCPUs (max)"),
        ("iothread = [{ id = 'a' }, { id = 'a' }]", ".iothread[1].id", "'a' already"),
        ("iothread = [{ id = 'a,b=1' }]", ".iothread[0].id", "is no id"),
        (
            "iothread = [{ id = 'a', thread_pool_min = 9, thread_pool_max = 2 }]",
            ".iothread[0].thread_pool_min",
            "9 is more than thread_pool_max",
        ),
        (
            "iothread = [{ id = 'a', thread_pool_min = 65 }]",
            ".iothread[0].thread_pool_min",
            "65 is more than thread_pool_max",
        ),
    ],
)
def test_cpus_that_make_no_sense_are_refused(lines, path, message):
    """Counts, topology, plugged vCPUs, pins and threads."""
    assert message in refuse(lines)[path]


@pytest.mark.parametrize(
    "cpu",
    ["count = 4, threads = 2", "count = 2, max = 8, sockets = 2", "count = 3, max = 4, cores = 4"],
)
def test_topologies_that_multiply_are_taken(cpu):
    """What is left out QEMU fills in."""
    assert load_text(f"[vm.a]\nkernel = 'k'\ncpu = {{ {cpu} }}", Path("/here"))


@pytest.mark.parametrize(
    ("lines", "path", "message"),
    [
        ("memory = { size = '2GiB', max = '1GiB' }", ".memory.max", "1GiB is less than 2GiB"),
        (
            "memory = { max = '1GiB', device = [{ size = '1GiB' }] }",
            ".memory.max",
            "1GiB is less than 512MiB and 1GiB of devices",
        ),
        ("memory = { slots = 2 }", ".memory.slots", "up to max"),
        ("memory = { slots = 300, max = '1GiB' }", ".memory.slots", "300 slots for 0 DIMMs"),
        (
            "memory.backend = { type = 'ram', hugepages = true }",
            ".memory.backend.hugepages",
            "plain RAM has no huge pages",
        ),
        ("memory.backend = { page_size = '2MiB' }", ".memory.backend.page_size", "goes with"),
        (
            "memory = { size = '1MiB', backend = { hugepages = true, page_size = '2MiB' } }",
            ".memory.backend.page_size",
            "1MiB is less than one such page",
        ),
        ("memory.backend = { type = 'memfd', path = 'x' }", ".memory.backend.path", "in a file"),
        (
            "memory.backend = { type = 'file', hugepages = true }",
            ".memory.backend.path",
            "is missing",
        ),
        (
            "memory.backend.shared = false\nshare = [{ path = 'd', tag = 't' }]",
            ".memory.backend.shared",
            "virtiofs needs shared memory",
        ),
        (
            "memory.device = [{ size = '1GiB', requested = '1GiB' }]",
            ".memory.device[0].requested",
            "a pc-dimm has none",
        ),
        (
            "memory.device = [{ size = '1GiB', model = 'virtio-mem', requested = '2GiB' }]",
            ".memory.device[0].requested",
            "2GiB is more than 1GiB",
        ),
        ("memory.device = [{ size = '1GiB', node = 0 }]", ".memory.device[0].node", "cell 0"),
        (
            "machine = 'microvm'\nmemory.device = [{ size = '1GiB' }]",
            ".memory.device[0]",
            "has no slots",
        ),
        (NUMA + "numa = [{ cpus = 0, memory = '2MiB' }]", ".numa", "vCPUs 1 are in no cell"),
        (
            NUMA + "numa = [{ cpus = '0-1', memory = '1MiB' }]",
            ".numa",
            "the cells have 1MiB, the machine 2MiB",
        ),
        (
            NUMA + "numa = [{ cpus = '0-1', memory = '1MiB' }, { cpus = 1, memory = '1MiB' }]",
            ".numa[1].cpus",
            "vCPU 1 is in numa[0] already",
        ),
        (
            NUMA + "numa = [{ cpus = '0-2', memory = '2MiB' }]",
            ".numa[0].cpus",
            "there is no vCPU 2",
        ),
        (
            NUMA + "numa = [{ cpus = '0-1', memory = '2MiB', distances = [10, 20] }]",
            ".numa[0].distances",
            "are 2, of 1 cells",
        ),
        (
            NUMA + "numa = [{ cpus = '0-1', memory = '2MiB', distances = [11] }]",
            ".numa[0].distances[0]",
            "is 10 from itself",
        ),
        (
            NUMA
            + "numa = [{ cpus = 0, memory = '1MiB', distances = [10, 255] },"
            + " { cpus = 1, memory = '1MiB' }]",
            ".numa[0].distances[1]",
            "255 is not 11 to 254",
        ),
    ],
)
def test_memory_that_makes_no_sense_is_refused(lines, path, message):
    """Sizes, backends, devices and cells."""
    assert message in refuse(lines)[path]


@pytest.mark.parametrize(
    ("lines", "path", "message"),
    [
        ("machine = 'microvm'\nfeatures.hpet = true", ".features.hpet", "a microvm has none"),
        ("machine = 'microvm'\nfirmware = 'uefi'", ".firmware", "starts without UEFI"),
        ("machine = 'microvm'\ntpm = '2.0'", ".tpm", "no place for a TPM"),
        (
            "machine = 'microvm'\ncpu = { max = 2, plugged = [1] }",
            ".cpu.plugged",
            "cannot be plugged",
        ),
        ("features.kernel_irqchip = 'x'", ".features.kernel_irqchip", "none of on, off, split"),
        (
            "accel = 'tcg'\nfeatures.kernel_irqchip = 'on'",
            ".features.kernel_irqchip",
            "is KVM's",
        ),
        ("features.dirty_ring_size = 1000", ".features.dirty_ring_size", "no power of two"),
        ("machine = 'pc'\nfeatures.tseg = '8MiB'", ".features.tseg", "q35's chipset"),
        ("features.globals = { a = 1 }", ".features.globals.a", "is not DRIVER.PROPERTY"),
        ("clock.base = 'now'", ".clock.base", "'now' is no time"),
        ("clock.base = '2026-13-31'", ".clock.base", "'2026-13-31' is no time"),
        (
            "clock = { base = '2026-01-01', offset = 1 }",
            ".clock.offset",
            "base says when that is",
        ),
        ("clock.source = 'x'", ".clock.source", "none of host, rt, vm"),
        ("boot = { menu = true, menu_timeout = '2min' }", ".boot.menu_timeout", "more than"),
        ("boot.menu_timeout = '2s'", ".boot.menu_timeout", "goes with a menu"),
        ("firmware.secure_boot = true", ".firmware.secure_boot", "is UEFI's"),
        (
            "machine = 'pc'\nfirmware = { type = 'uefi', secure_boot = true }",
            ".firmware.secure_boot",
            "only q35 has",
        ),
        (
            "firmware = { type = 'uefi', secure_boot = true }\nfeatures.smm = false",
            ".features.smm",
            "keeps its keys by it",
        ),
        (
            "firmware = { type = 'uefi', secure_boot = false, enrolled_keys = true }",
            ".firmware.enrolled_keys",
            "go with Secure Boot",
        ),
        ("firmware = { type = 'uefi', code = 'c' }", ".firmware", "no variables for its code"),
        (
            "firmware = { type = 'uefi', stateless = true, vars = 'v' }",
            ".firmware.vars",
            "keeps no variables",
        ),
        (
            "firmware = { type = 'uefi', vars_format = 'vdi' }",
            ".firmware.vars_format",
            "neither raw nor qcow2",
        ),
        ("tpm = { version = '1.2', model = 'tpm-crb' }", ".tpm.model", "has no CRB"),
        ("smbios.bios.release = '1'", ".smbios.bios.release", "is not MAJOR.MINOR"),
        ("credential = [{ name = 'a b', file = 'f' }]", ".credential[0].name", "no name"),
        (
            "credential = [{ name = 'a', file = 'f' }, { name = 'a', file = 'f' }]",
            ".credential[1].name",
            "'a' already",
        ),
        ("fw_cfg = [{ name = 'opt/a' }]", ".fw_cfg[0]", "has not one content"),
        (
            "fw_cfg = [{ name = 'opt/a', text = 'b' }, { name = 'opt/a', text = 'c' }]",
            ".fw_cfg[1].name",
            "there is a file 'opt/a' already",
        ),
        ("fw_cfg = [{ name = '', text = '' }]", ".fw_cfg[0].name", "is not 1 to 55"),
    ],
)
def test_boards_that_make_no_sense_are_refused(lines, path, message):
    """Features, clock, boot and tables."""
    assert message in refuse(lines)[path]
