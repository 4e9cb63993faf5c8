from pathlib import Path

import pytest
from fake_host import NO_KVM, plan_text, without

from qorch.argv import make_switches
from qorch.errors import InputError
from qorch.facts import File, HugePages, PageCount, Room
from qorch.handles import Handles
from qorch.spec import MemoryBackendType, NumaPolicy
from qorch.switch.base import Accelerator, Global, Rtc

WEB = "[vm.web]\nkernel = 'k'\n"


def plan_web(lines, **facts):
    """The plan of a machine."""
    return plan_text(WEB + lines, **facts).machines["web"]


def refuse(lines, **facts):
    """The problems of a machine by path."""
    with pytest.raises(InputError) as caught:
        plan_web(lines, **facts)
    return {problem.path: problem for problem in caught.value.problems}


def find(plan, kind, now=0):
    """The words of all switches of one class."""
    handles = Handles.from_numbers(plan, now=now)
    return [item.args() for item in make_switches(plan, handles) if isinstance(item, kind)]


@pytest.mark.parametrize(
    ("lines", "type_", "shared"),
    [
        ("memory.backend.prealloc = true", MemoryBackendType.RAM, None),
        ("memory.backend.shared = true", MemoryBackendType.MEMFD, True),
        ("memory.backend.path = '/dev/shm'", MemoryBackendType.FILE, None),
        ("memory.hugepages = true", MemoryBackendType.MEMFD, None),
        (
            "nic = [{ vhost_user = { backend = { path = '/s' } } }]",
            MemoryBackendType.MEMFD,
            True,
        ),
        (
            "disk = [{ vhost_user = { backend = { path = '/s' } } }]",
            MemoryBackendType.MEMFD,
            True,
        ),
        (
            "video = [{ model = 'virtio', vhost_user = { backend = { path = '/s' } } }]",
            MemoryBackendType.MEMFD,
            True,
        ),
    ],
)
def test_memory_is_of_the_kind_that_its_use_needs(lines, type_, shared):
    """A memfd can be shared, and of huge pages, without anything mounted."""
    pages = HugePages(pages={2 << 20: PageCount(1000, 500)})
    ram = plan_web(lines, hugepages=pages).memory.ram
    assert (ram.backend.type, ram.backend.shared) == (type_, shared)
    assert ram.id == "pc.ram"


def test_plain_memory_is_qemus_own():
    """Without a backend there is nothing to say."""
    assert plan_web("memory = '1GiB'").memory.ram is None


def test_host_nodes_bind_and_huge_pages_are_taken_at_once():
    """Unless the spec says otherwise: a page that is missing is missed at the start."""
    pages = HugePages(pages={1 << 30: PageCount(4, 4)})
    text = "memory = { size = '2GiB', backend = { hugepages = true, page_size = '1GiB',"
    ram = plan_web(text + " host_nodes = '0-1' } }", hugepages=pages).memory.ram
    assert (ram.backend.policy, ram.backend.prealloc) == (NumaPolicy.BIND, True)


def test_huge_pages_that_the_host_lacks_are_refused_with_figures():
    """A size it does not know, and more than it can have."""
    pages = HugePages(pages={2 << 20: PageCount(100, 7)})
    path = "vm.web.memory.backend.hugepages"
    problem = refuse("memory = { size = '1GiB', hugepages = true }", hugepages=pages)[path]
    expected = "needs 512 huge pages of 2MiB; the host has 100, 7 of them free"
    assert problem.message == expected
    assert problem.hint == "sysctl vm.nr_hugepages=512"
    text = "memory = { size = '1GiB', backend = { hugepages = true, page_size = '1GiB' } }"
    problem = refuse(text, hugepages=pages)[path]
    assert (problem.message, problem.hint) == (
        "this host has no huge pages of 1GiB",
        "it has: 2MiB",
    )


def test_cells_have_the_memory_of_the_machine_unless_they_say_otherwise():
    """Its backend is the default of theirs."""
    text = """memory = { size = "2MiB", backend = { merge = false } }
        cpus = 2
        numa = [{ cpus = 0, memory = "1MiB" },
                { cpus = 1, memory = "1MiB", backend = { shared = true } }]"""
    one, two = plan_web(text).memory.cells
    assert (one.ram.backend.merge, one.ram.backend.shared) == (False, None)
    assert (two.ram.backend.merge, two.ram.backend.shared) == (None, True)


def test_memory_devices_make_room_for_themselves():
    """`max` and `slots` are what they need, unless more is asked for."""
    text = "memory.device = [{ size = '1GiB' }, { size = '1GiB', model = 'virtio-mem' }]"
    memory = plan_web(text).memory
    assert (str(memory.max), memory.slots) == ("2560MiB", 1)
    assert [device.place.bus is None for device in memory.devices] == [True, False]


@pytest.mark.parametrize(
    ("cpu", "index", "place"),
    [
        ("max = 8, sockets = 2, cores = 2, threads = 2", 5, (1, 0, 0, 1)),
        ("max = 8, sockets = 2, dies = 2, cores = 2", 6, (1, 1, 0, 0)),
        ("max = 4", 3, (0, 0, 3, 0)),
        ("max = 4, sockets = 4", 3, (3, 0, 0, 0)),
        ("max = 4, cores = 1", 2, (2, 0, 0, 0)),
    ],
)
def test_a_vcpu_has_its_place_in_the_topology(cpu, index, place):
    """Threads are counted first; cores are preferred to sockets."""
    assert plan_web(f"cpu = {{ {cpu} }}").cpu.locate(index) == place


def test_the_hosts_cpu_needs_kvm():
    """Where TCG is all there is, `auto` takes its best instead."""
    hint = 'model = "max" is the best there is under TCG'
    assert refuse("accel = 'tcg'\ncpu.model = 'host'")["vm.web.cpu.model"].hint == hint
    assert plan_web("cpu.model = 'host'", kvm=NO_KVM).cpu.model == "max"
    assert plan_web("cpu.model = 'host'").cpu.model == "host"


def test_pins_of_all_kinds_must_be_cpus_of_the_host():
    """vCPUs, QEMU's other threads, I/O threads."""
    text = "cpu = { pin = [7], emulator_pin = 8 }\niothread = [{ id = 'a', pin = 9 }]"
    problems = refuse(text)
    assert {path: problem.message for path, problem in problems.items()} == {
        "vm.web.cpu.pin[0]": "this host has no CPU 7",
        "vm.web.cpu.emulator_pin": "this host has no CPU 8",
        "vm.web.iothread[0].pin": "this host has no CPU 9",
    }


def test_files_that_are_not_there_are_named_with_their_paths():
    """Each by the key that names it."""
    text = """emulator = "q"
        boot.splash = "s"
        credential = [{ name = "a", file = "c" }]
        fw_cfg = [{ name = "b", file = "f" }]"""
    files = {Path(f"/golden/{name}"): File(error=f"no {name}") for name in "qscf"}
    files[Path("/golden/k")] = File()
    problems = refuse(text, files=files)
    assert {path: problem.message for path, problem in problems.items()} == {
        "vm.web.emulator": "no q",
        "vm.web.boot.splash": "no s",
        "vm.web.credential[0].file": "no c",
        "vm.web.fw_cfg[0].file": "no f",
    }


def test_a_clock_may_differ_from_the_hosts():
    """By so many seconds, from the moment that QEMU starts."""
    plan = plan_web("clock.offset = -60")
    assert find(plan, Rtc, now=1700000000) == [("-rtc", "base=2023-11-14T22:12:20")]
    assert find(plan_web(""), Rtc) == []


def test_kvms_properties_take_the_longer_form():
    """`-enable-kvm` takes none."""
    assert find(plan_web("features.dirty_ring_size = 4096"), Accelerator) == [
        ("-accel", "kvm,dirty-ring-size=4096")
    ]
    assert find(plan_web("clock.pit_policy = 'delay'"), Global) == [
        ("-global", "kvm-pit.lost_tick_policy=delay")
    ]


def test_the_generation_is_the_machines_own():
    """The same from start to start, unless it is given."""
    guid = "e4a8f7b6-1111-2222-3333-444455556666"
    assert plan_web("genid = {}").genid == plan_web("genid = {}").genid
    assert str(plan_web(f"genid.guid = '{guid}'").genid) == guid
    assert plan_web("").genid is None


def test_uefi_comes_from_the_descriptors():
    """Code as it is installed, variables in the machine's own directory."""
    firmware = plan_web("firmware = 'uefi'").firmware
    assert firmware.code.path == Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
    assert firmware.variables.path == Path("/golden/data/images/web.uefi-vars.qcow2")
    assert firmware.template.path == Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
    assert not firmware.secure
    firmware = plan_web("firmware = { type = 'uefi', secure_boot = true }").firmware
    assert firmware.template.path == Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
    assert (firmware.secure, firmware.smm) == (True, True)


def test_firmware_can_be_named():
    """Files of one's own, variables where they are, or none."""
    text = "firmware = { type = 'uefi', code = 'c.fd', vars = 'v.qcow2' }"
    firmware = plan_web(text).firmware
    assert str(firmware.variables.path) == "/golden/v.qcow2"
    assert (firmware.variables.format.value, firmware.template) == ("qcow2", None)
    text = "firmware = { type = 'uefi', code = 'c.fd', stateless = true }"
    assert plan_web(text).firmware.variables is None
    assert plan_web("firmware.code = 'bios.bin'").firmware.bios == Path("/golden/bios.bin")


@pytest.mark.parametrize(
    ("lines", "facts", "path", "hint"),
    [
        ("firmware = 'uefi'", {"firmwares": ()}, "firmware", "apt-get install ovmf"),
        ("tpm = '2.0'", {"programs": without("swtpm")}, "tpm", "apt-get install swtpm"),
        (
            "share = [{ path = 'd', tag = 't' }]",
            {"programs": without("virtiofsd")},
            "share[0]",
            "apt-get install qemu-system-common",
        ),
        ("share = [{ path = 'd', tag = 't', read_only = true }]", {}, "share[0].read_only", "9p"),
    ],
)
def test_programs_and_firmware_that_are_missing_are_named(lines, facts, path, hint):
    """With the package that has them."""
    assert hint in refuse(lines, **facts)[f"vm.web.{path}"].hint


def test_shares_of_a_process_need_shared_memory():
    """So it is a memfd; one that somebody else runs needs no program."""
    plan = plan_web("share = [{ path = 'd', tag = 't' }]")
    assert (plan.memory.ram.backend.type, plan.memory.ram.backend.shared) == (
        MemoryBackendType.MEMFD,
        True,
    )
    assert plan_web("share = [{ socket = 's', tag = 't' }]").shares[0].program is None


def test_the_hosts_cpu_under_tcg_is_told():
    """Where KVM is not there, `host` becomes the most that TCG has."""
    plan = plan_text(WEB + "cpu.model = 'host'", kvm=NO_KVM)
    assert any('"max"' in note.message for note in plan.notes)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("tpm = '2.0'\ninitrd = 'i'", True),
        ("tpm = '2.0'\ninitrd = 'i'\nfirmware = 'uefi'", False),
        ("tpm = '2.0'", False),
        ("initrd = 'i'", False),
    ],
)
def test_a_tpm_that_an_initrd_is_laid_over_is_told(lines, told):
    """Of an ELF kernel, under SeaBIOS."""
    files = {Path("/golden/k"): File(elf=True), Path("/golden/i"): File()}
    notes = plan_text(WEB + lines, files=files).notes
    assert any("boot its bzImage" in note.message for note in notes) == told


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("memory = '2TiB'", "size"),
        ("memory = { size = '1GiB', max = '2TiB' }", "max"),
        ("memory = '100TiB'\ncpu.properties = { phys-bits = 46 }", "size"),
        ("memory = '100TiB'\ncpu.properties = { host-phys-bits = true }", "size"),
        ("memory = '100TiB'\ncpu.properties = { phys-bits = 48 }", None),
        ("memory = '2TiB'\ncpu.properties = { host-phys-bits = true }", None),
    ],
)
def test_memory_that_no_address_reaches_is_refused(lines, key):
    """As far as the vCPUs' addresses go, 40 bits unless they are given more."""
    room = Room(ram=8 << 40, address_bits=46)
    if key is None:
        assert plan_web(f"accel = 'tcg'\n{lines}", room=room)
    else:
        problems = refuse(f"accel = 'tcg'\n{lines}", room=room)
        assert list(problems) == [f"vm.web.memory.{key}"]
        (problem,) = problems.values()
        assert problem.on_host == (key == "max")  # which another QEMU may take


def test_more_memory_than_the_host_has_is_told():
    """It may never use it all; RAM and swap count."""
    room = Room(ram=1 << 30, swap=1 << 30)
    assert plan_text(WEB + "memory = '2GiB'", room=room).notes == ()
    (note,) = plan_text(WEB + "memory = '3GiB'", room=room).notes
    assert "has 3GiB of memory, the host 1.0 GiB and 1.0 GiB of swap" in note.message


def test_devices_and_directories_that_are_not_there_are_named():
    """Each with a way out."""
    gone = File(error="/x: No such file or directory")
    lines = """
    tpm = { device = "/dev/tpm9" }
    serial = [{ backend = { type = "file", path = "/gone/log" } }]
    rng = [{ source = "/dev/hwrng" }]
    """
    files = {
        Path("/golden/k"): File(),
        **dict.fromkeys(map(Path, ("/dev/tpm9", "/gone", "/dev/hwrng")), gone),
    }
    problems = refuse(lines, files=files)
    assert {path: problem.hint for path, problem in problems.items()} == {
        "vm.web.tpm.device": 'ls /dev/tpm* shows the host\'s; tpm = "2.0" emulates one',
        "vm.web.rng[0].source": "without source = … it is /dev/urandom;"
        ' backend = "rng-builtin" needs no device',
        "vm.web.serial[0].backend.path": "mkdir -p /gone",
    }


def test_a_usb_device_that_is_optional_may_come_later():
    """QEMU takes it when it is plugged in; by its ids, or where it is plugged in."""
    assert plan_web("hostdev = [{ type = 'usb', host = '9.9', optional = true }]")
    assert plan_web("hostdev = [{ type = 'usb', vendor = 0x46d, product = 0x825 }]")
    hint = refuse("hostdev = [{ type = 'usb', host = '9.9' }]", host_usb=())[
        "vm.web.hostdev[0]"
    ].hint
    assert "no USB device at all" in hint


def test_a_host_without_sev_is_told():
    """Where AMD's firmware and kernel have it, there is a device."""
    gone = File(error="/dev/sev: No such file or directory")
    files = {Path("/golden/k"): File(), Path("/dev/sev"): gone}
    lines = "confidential = { properties = { cbitpos = 47, reduced-phys-bits = 1 } }"
    problem = refuse(f"accel = 'kvm'\n{lines}", files=files)["vm.web.confidential.type"]
    assert "/dev/sev" in problem.message
    assert problem.on_host
