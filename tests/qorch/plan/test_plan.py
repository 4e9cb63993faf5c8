import itertools
import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import attrs
import pytest
from fake_host import (
    KVM,
    NETWORK,
    NO_KVM,
    ROOT,
    SOFT_KVM,
    make_facts,
    make_image,
    plan_text,
    with_address,
    without,
)
from hypothesis import given
from hypothesis import strategies as st

from qorch.convert import make_plain
from qorch.errors import InputError
from qorch.facts import File, Image
from qorch.load import load_text
from qorch.plan import Defined, add_leases, make_plan
from qorch.spec import Accel
from qorch_net.host import Link
from qorch_storage.plan import ImageFormat, find_format

KERNEL = 'kernel = "k"\n'
WEB = f"[vm.web]\n{KERNEL}"


def refuse(text, **facts):
    """The problems of a document on a host, by path."""
    with pytest.raises(InputError) as caught:
        plan_text(text, **facts)
    return {problem.path: problem for problem in caught.value.problems}


def plan_web(text, **facts):
    """The plan of the machine `web`."""
    return plan_text(text, **facts).machines["web"]


def define(*plans):
    """What is defined once these plans were carried out."""
    return Defined(
        machines={name: vm for plan in plans for name, vm in plan.machines.items()},
        networks={name: net for plan in plans for name, net in plan.networks.items()},
    )


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_same_input_gives_the_same_plan(order):
    """Byte for byte, and in whatever order the host's facts were found."""
    text = "".join(
        f"[vm.{name}]\n{KERNEL}nic = [{{}}]\ndisk = [{{ size = '1GiB' }}]\n"
        for name in ("a", "b", "c", "d")
    )
    programs = {name: Path("/bin") / name for name in order}
    facts = make_facts().programs | programs
    plans = [plan_text(text), plan_text(text, programs=facts)]
    one, other = (json.dumps(make_plain(plan.machines)) for plan in plans)
    assert one == other


@given(st.integers(1, 12))
def test_no_two_machines_share_an_address(count):
    """MACs, addresses, taps and UUIDs are each of one card or machine."""
    text = "".join(f"[vm.m{index}]\n{KERNEL}nic = [{{}}, {{}}]\n" for index in range(count))
    machines = plan_text(text).machines.values()
    nics = [nic for machine in machines for nic in machine.nics]
    for key in ("mac", "ip"):
        assert len({getattr(nic, key) for nic in nics}) == len(nics)
    assert len({nic.tap.name for nic in nics}) == len(nics)
    assert len({machine.uuid for machine in machines}) == count


def test_adding_a_machine_changes_no_other():
    """A machine's identifiers come from itself, not from its neighbours."""
    two = plan_text(f"{WEB}nic = [{{}}]\n[vm.db]\n{KERNEL}nic = [{{}}]\n")
    one = plan_text(f"{WEB}nic = [{{}}]\n")
    assert two.machines["web"] == one.machines["web"]


def test_another_host_or_state_directory_gives_other_identifiers():
    """Two supervisors make machines of one name that never meet."""
    text = f"{WEB}nic = [{{}}]\n"
    plans = [
        plan_web(text),
        plan_web(text, host_id="other"),
        plan_web(text, root=Path("/elsewhere")),
    ]
    assert len({plan.uuid for plan in plans}) == 3
    assert len({plan.nics[0].mac for plan in plans}) == 3
    assert plans[0].nics[0].tap.name != plans[2].nics[0].tap.name


def test_qemu_must_be_installed():
    """What is missing is named, with the package that has it."""
    problem = refuse(WEB, programs=without("qemu-system-x86_64"))[""]
    assert problem.message == "qemu-system-x86_64 is not installed"
    assert problem.hint == "apt-get install qemu-system-x86"


def test_dnsmasq_must_be_installed_for_a_network():
    """And only for one."""
    problem = refuse(f"{WEB}nic = [{{}}]\n", programs=without("dnsmasq"))["network.default"]
    assert problem.message.startswith("dnsmasq is not installed")
    assert plan_text(WEB, programs=without("dnsmasq"))


def test_qemu_img_must_be_installed_for_a_new_volume():
    """An image that is there needs none."""
    missing = without("qemu-img")
    problem = refuse("[vm.web]\ndisk = [{ size = '1GiB' }]", programs=missing)["vm.web.disk[0]"]
    assert problem.message == "qemu-img is not installed"
    assert plan_text("[vm.web]\ndisk = [{ path = 'a.raw' }]", programs=missing)


def test_a_missing_kernel_is_named_with_its_path():
    """Kernel and initrd, both at once."""
    files = {Path(f"/golden/{name}"): File(error=f"{name}: No such file") for name in "ki"}
    problems = refuse(f"{WEB}initrd = 'i'\n", files=files)
    assert problems["vm.web.kernel"].message == "k: No such file"
    assert problems["vm.web.initrd"].message == "i: No such file"


def missing(name, error, hint=None):
    """An image that cannot be read, as the spec has it."""
    path = Path("/golden") / name
    return Image(chain=(make_image(path, find_format(path)),), error=error, hint=hint)


def test_a_missing_image_is_named_with_its_path():
    """A backing file or a disk of its own."""
    images = {
        Path("/golden/a.raw"): missing("a.raw", "a is not there", "find it"),
        Path("/golden/b.qcow2"): missing("b.qcow2", "b is not there"),
    }
    text = "[vm.web]\ndisk = [{ path = 'a.raw' }, { backing = 'b.qcow2' }]"
    problems = refuse(text, images=images)
    assert problems["vm.web.disk[0].path"].hint == "find it"
    assert problems["vm.web.disk[1].backing"].message == "b is not there"


def test_what_only_this_host_lacks_is_a_note_for_elsewhere():
    """A command line can be had without the image; what is wrong everywhere is still refused."""
    images = {Path("/golden/a.raw"): missing("a.raw", "a is not there")}
    spec = load_text("[vm.web]\naccel = 'tcg'\ndisk = [{ path = 'a.raw' }]", ROOT)
    facts = make_facts(spec, images=images)
    plan = make_plan(spec, facts, Defined(), elsewhere=True)
    assert [(note.name, note.message) for note in plan.notes] == [
        ("vm.web.disk[0].path", "a is not there")
    ]
    (disk,) = plan.machines["web"].disks
    assert (disk.path, disk.chain[0].format) == (Path("/golden/a.raw"), ImageFormat.RAW)
    spec = load_text("[vm.web]\nkernel = 'k'\nnic = [{ network = 'lan' }]", ROOT)
    with pytest.raises(InputError, match="there is no network 'lan'"):
        make_plan(spec, make_facts(spec), Defined(), elsewhere=True)


def test_unknown_pools_networks_and_volumes_are_named():
    """Each with those that there are."""
    text = """
[vm.web]
disk = [{ size = "1GiB", pool = "fast" }, { volume = "data" }]
nic = [{ network = "lan" }]
[network.office]
"""
    problems = refuse(text)
    assert problems["vm.web.disk[0].pool"].hint == "known pools: default"
    assert problems["vm.web.disk[1].volume"].message == "there is no volume 'data' in this file"
    assert problems["vm.web.nic[0].network"].hint.startswith("known networks: default, office;")


def test_pins_must_be_cpus_of_the_host():
    """The first CPU that is missing, and those there are."""
    problem = refuse(f"{WEB}cpu = {{ count = 2, pin = [0, '1-5'] }}\n")["vm.web.cpu.pin[1]"]
    assert problem.message == "this host has no CPU 2"
    assert problem.hint == "its CPUs are 0-1"


def test_kvm_that_is_asked_for_must_be_there():
    """`accel = "kvm"` never falls back."""
    problem = refuse(f"{WEB}accel = 'kvm'\n", kvm=NO_KVM)["vm.web.accel"]
    assert problem.message == NO_KVM.error
    assert "auto" in problem.hint


@pytest.mark.parametrize(
    ("accel", "kvm", "result", "model", "notes"),
    [
        ("auto", KVM, Accel.KVM, "host", 0),
        ("auto", NO_KVM, Accel.TCG, "max", 1),
        ("auto", SOFT_KVM, Accel.TCG, "max", 1),
        ("kvm", KVM, Accel.KVM, "host", 0),
        ("kvm", SOFT_KVM, Accel.KVM, "qemu64", 0),
        ("tcg", KVM, Accel.TCG, "max", 0),
    ],
)
def test_the_accelerator_follows_the_host(accel, kvm, result, model, notes):
    """`auto` takes KVM where it can run any guest; a fall back to TCG is never silent."""
    plan = plan_text(f"{WEB}accel = '{accel}'\n", kvm=kvm)
    assert plan.machines["web"].accel is result
    assert plan.machines["web"].cpu.model == model
    assert [note.name for note in plan.notes] == ["web"] * notes


def test_the_note_on_tcg_says_why():
    """No vmx, no svm."""
    (note,) = plan_text(WEB, kvm=SOFT_KVM).notes
    assert "neither vmx nor svm" in note.message


def test_a_machine_keeps_its_address():
    """Although another one has come whose hash would take it."""
    first = plan_text(f"{WEB}nic = [{{}}]\n")
    again = plan_text(f"{WEB}nic = [{{}}]\ncpus = 2\n", defined=define(first))
    assert again.machines["web"].nics == first.machines["web"].nics


def test_an_address_of_another_machine_is_refused():
    """MACs and IPs of machines that are defined already are taken."""
    lan = "[network.lan]\nsubnet = '10.9.0.0/24'\n"
    nic = "nic = [{ network = 'lan', mac = '52:54:00:00:00:09', ip = '10.9.0.9' }]\n"
    first = plan_text(f"{lan}[vm.a]\n{KERNEL}{nic}")
    problems = refuse(f"{lan}[vm.b]\n{KERNEL}{nic}", defined=define(first))
    assert problems["vm.b.nic[0].mac"].message == "52:54:00:00:00:09 belongs to another machine"
    assert problems["vm.b.nic[0].ip"].message == "10.9.0.9 belongs to another machine"


@pytest.mark.parametrize("ip", ["10.9.0.1", "10.9.0.0", "10.9.0.255", "10.8.0.5"])
def test_an_address_that_no_guest_can_have_is_refused(ip):
    """The gateway's, the subnet's own, broadcast, and those outside."""
    text = f"{WEB}nic = [{{ network = 'lan', ip = '{ip}' }}]\n[network.lan]\nsubnet='10.9.0.0/24'"
    assert "is no guest address" in refuse(text)["vm.web.nic[0].ip"].message


def test_a_full_network_is_refused():
    """One address, two machines."""
    lan = "[network.lan]\nsubnet = '10.9.0.0/30'\n"
    text = "".join(f"[vm.{n}]\n{KERNEL}nic = [{{ network = 'lan' }}]\n" for n in "ab")
    assert "are taken" in refuse(lan + text)["vm.b.nic[0]"].message


def test_a_subnet_that_the_host_uses_is_refused():
    """With who uses it."""
    problem = refuse(f"{WEB}[network.lan]\nsubnet = '10.0.2.0/24'\n")["network.lan"]
    assert "10.0.2.15/24 of interface eth0" in problem.message


def test_a_network_without_a_subnet_gets_a_free_one():
    """Clear of the host and of all other networks."""
    host = with_address("eth1", "192.168.133.9/24")
    text = "[network.a]\n[network.b]\nsubnet = '192.168.134.0/24'\n[network.c]\n"
    networks = plan_text(text, network=host).networks
    assert [str(network.subnet) for network in networks.values()] == [
        "192.168.135.0/24",
        "192.168.134.0/24",
        "192.168.136.0/24",
    ]


def test_without_any_free_subnet_one_is_asked_for():
    """All of ours are in use."""
    problem = refuse("[network.a]\n", network=with_address("eth1", "192.168.1.1/16"))["network.a"]
    assert problem.hint == "give one: subnet = …"


def test_a_network_must_not_overlap_one_that_is_defined():
    """Of another file of the same supervisor."""
    first = plan_text("[network.a]\nsubnet = '10.9.0.0/16'\n")
    problem = refuse("[network.b]\nsubnet = '10.9.1.0/24'\n", defined=define(first))
    assert problem["network.b.subnet"].message.startswith("10.9.1.0/24 overlaps 10.9.0.0/16 of")


def test_a_network_keeps_its_subnet():
    """Although its own bridge has taken it on the host since."""
    first = plan_text("[network.a]\n").networks["a"]
    host = with_address(first.bridge, str(first.gateway))
    link = Link(index=9, name=first.bridge, up=True, kind="bridge", alias=first.mark.alias)
    host = attrs.evolve(host, links=(*host.links, link))
    defined = Defined(networks={"a": first})
    assert plan_text("[network.a]\n", network=host, defined=defined).networks["a"] == first


def test_a_bridge_name_that_is_taken_is_refused():
    """By an interface that is not ours."""
    link = Link(index=9, name="br0", up=True, kind="bridge")
    host = attrs.evolve(NETWORK, links=(*NETWORK.links, link))
    problem = refuse("[network.a]\nbridge = 'br0'\n", network=host)["network.a"]
    assert "br0 is taken" in problem.message


def test_the_dhcp_range_leaves_the_gateway_out():
    """It is the larger part of the subnet beside the gateway."""
    for gateway, start, end in (("1", 2, 254), ("254", 1, 253), ("100", 101, 254)):
        text = f"[network.a]\nsubnet = '10.9.0.0/24'\ngateway = '10.9.0.{gateway}'"
        dhcp = plan_text(text).networks["a"].dhcp
        assert (str(dhcp.start), str(dhcp.end)) == (f"10.9.0.{start}", f"10.9.0.{end}")


def test_a_dhcp_range_with_the_gateway_in_it_is_refused():
    """Or a guest would get the bridge's own address."""
    text = "[network.a]\nsubnet = '10.9.0.0/24'\ndhcp = { start = '10.9.0.1', end = '10.9.0.9' }"
    assert "contains the gateway" in refuse(text)["network.a"].message


def test_an_image_that_two_machines_would_write_is_refused():
    """Unless both only read it, or each has an overlay of its own."""
    both = "[vm.a]\ndisk = [{{ {0} }}]\n[vm.b]\ndisk = [{{ {0} }}]\n"
    problem = refuse(both.format("path = 'd.raw'"))["vm.b.disk[0]"]
    assert problem.message == "/golden/d.raw is in use by vm.a.disk[0]"
    assert plan_text(both.format("path = 'd.raw', read_only = true"))
    assert plan_text(both.format("backing = 'd.raw'"))


def test_an_image_that_another_machine_builds_on_must_not_be_written():
    """Writing to it would ruin every overlay above it."""
    text = "[vm.a]\ndisk = [{ backing = 'd.qcow2' }]\n[vm.b]\ndisk = [{ path = 'd.qcow2' }]\n"
    assert "is in use by vm.a.disk[0]" in refuse(text)["vm.b.disk[0]"].message


def test_an_image_of_a_machine_that_is_defined_is_in_use():
    """Two files of one supervisor share nothing either."""
    first = plan_text("[vm.a]\ndisk = [{ path = 'd.raw' }]\n")
    problems = refuse("[vm.b]\ndisk = [{ path = 'd.raw' }]\n", defined=define(first))
    assert "is in use by vm.a.disk[0]" in problems["vm.b.disk[0]"].message


def test_a_shared_image_is_named_by_its_place_in_the_file():
    """Although a disk before it is wrong as well."""
    images = {
        Path("/golden/no.raw"): missing("no.raw", "no"),
        Path("/golden/d.raw"): Image(chain=(make_image(Path("/golden/d.raw"), ImageFormat.RAW),)),
    }
    text = "[vm.a]\ndisk = [{ path = 'no.raw' }, { path = 'd.raw' }, { path = 'd.raw' }]\n"
    assert set(refuse(text, images=images)) == {"vm.a.disk[0].path", "vm.a.disk[2]"}


def test_what_a_bad_pool_or_volume_is_for_is_no_problem_of_its_own():
    """One mistake is one error."""
    text = "[vm.web]\ndisk = [{ volume = 'a' }]\n[volume.a]\nsize = '1GiB'\npool = 'b'\n"
    assert list(refuse(text)) == ["volume.a.pool"]
    assert list(refuse(text + "[pool.b]\ntype = 'lvm'\nvg = 'no/vg'\n")) == ["pool.b"]


def test_a_volume_is_used_by_the_machine_that_names_it():
    """A volume of its own lies in its pool, over its backing file."""
    text = """
[vm.web]
disk = [{ volume = "data" }]
[volume.data]
pool = "fast"
backing = "top.over-base.qcow2"
[pool.fast]
path = "pool"
"""
    (disk,) = plan_web(text).disks
    assert [str(image.path) for image in disk.chain] == [
        "/golden/pool/data.qcow2",
        "/golden/top.over-base.qcow2",
        "/golden/base.qcow2",
    ]
    assert (disk.pool.name, disk.volume.name) == ("fast", "data")


def test_disks_are_booted_in_order_unless_there_is_a_kernel():
    """The order in the file is the firmware's."""
    disks = "disk = [{ path = 'a.raw' }, { path = 'b.raw' }]\n"
    assert [disk.bootindex for disk in plan_web(f"[vm.web]\n{disks}").disks] == [1, 2]
    assert [disk.bootindex for disk in plan_web(f"{WEB}{disks}").disks] == [None, None]


def test_every_device_has_a_root_port_and_some_are_spare():
    """On q35, where it can be unplugged."""
    text = f"{WEB}nic = [{{}}, {{}}]\ndisk = [{{ size = '1GiB' }}]\n[vm.web.cloud_init]\n"
    plan = plan_web(text)
    ports = {controller.id for controller in plan.controllers}
    buses = [place.bus for place in plan.places().values() if place.bus in ports]
    assert len(set(buses)) == len(buses) == 6
    assert len(ports) == 6 + 4


def test_a_seed_says_what_the_file_says():
    """Accounts with keys from the file and from key files, comments left out."""
    text = f"""
{WEB}
[[vm.web.cloud_init.user]]
name = "debian"
sudo = true
groups = ["adm"]
ssh_keys = ["ssh-ed25519 AAAA given"]
ssh_key_files = ["key.pub"]
"""
    plan = plan_web(text)
    head, _, body = plan.seed.files["user-data"].partition("\n")
    assert head == "#cloud-config"
    data = json.loads(body)
    assert data["hostname"] == "web"
    assert data["users"] == [
        {
            "name": "debian",
            "shell": "/bin/bash",
            "lock_passwd": True,
            "groups": ["adm"],
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "ssh_authorized_keys": ["ssh-ed25519 AAAA given", "ssh-ed25519 AAAAC3Nz from-file"],
        }
    ]
    assert json.loads(plan.seed.files["meta-data"])["instance-id"] == str(plan.uuid)


def test_a_missing_key_file_is_named_with_its_path():
    """Rather than a guest that nobody can enter."""
    text = f"{WEB}[[vm.web.cloud_init.user]]\nname = 'a'\nssh_key_files = ['key.pub']\n"
    files = {Path("/golden/k"): File(), Path("/golden/key.pub"): File(error="not there")}
    problem = refuse(text, files=files)["vm.web.cloud_init.user[0].ssh_key_files[0]"]
    assert problem.message == "not there"


def test_problems_of_every_kind_come_at_once():
    """Host, network, disk and machine in one error."""
    text = f"""
{WEB}accel = "kvm"
cpu = {{ pin = [7] }}
disk = [{{ size = "1GiB", pool = "no" }}]
nic = [{{ network = "no" }}]
[network.lan]
subnet = "10.0.2.0/24"
"""
    assert set(refuse(text, kvm=NO_KVM)) == {
        "vm.web.accel",
        "vm.web.cpu.pin[0]",
        "vm.web.disk[0].pool",
        "vm.web.nic[0].network",
        "network.lan",
    }


def test_a_network_has_a_lease_for_every_card_on_it():
    """The second card of a machine has a name of its own."""
    web = f"{WEB}nic = [{{}}, {{ network = 'lan' }}, {{}}]\n"
    text = f"{web}[vm.db]\n{KERNEL}nic = [{{}}]\n[network.lan]"
    plan = plan_text(text)
    network = add_leases(plan.networks["default"], plan.machines)
    assert {lease.name for lease in network.leases} == {"web", "web-nic2", "db"}
    assert all(one.ip < other.ip for one, other in itertools.pairwise(network.leases))
    assert {lease.ip for lease in network.leases} == {
        nic.ip
        for machine in plan.machines.values()
        for nic in machine.nics
        if nic.network == "default"
    }


def test_a_machine_is_known_by_its_mark_and_addresses():
    """What QEMU carries in its environment, and where the guest will be."""
    plan = plan_web(f"{WEB}nic = [{{ ip = '192.168.133.7' }}]\n")
    assert plan.mark == f"{plan.owner}:vm/web"
    assert plan.ips == (IPv4Address("192.168.133.7"),)
    assert plan.ips[0] in IPv4Network("192.168.133.0/24")
