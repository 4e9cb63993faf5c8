import json
from pathlib import Path

from fake_host import plan_text

from qorch.argv import make_argv, make_switches
from qorch.handles import Handles
from qorch.switch.base import DirectBoot
from qorch.switch.blockdev import BlockdevFormat, BlockdevProtocol
from qorch.switch.device import DeviceController
from qorch.switch.disk import DeviceVirtioBlk
from qorch.switch.netdev import NetdevTap
from qorch.switch.screen import Spice

QEMU = Path("/usr/bin/qemu-system-x86_64")
TEXT = """
[vm.web]
kernel = "k,ernel"
append = "-S, a=b,c"
[[vm.web.disk]]
path = "a,b \\"c\\".over-base.qcow2"
format = "qcow2"
[[vm.web.disk]]
path = "ro.raw"
read_only = true
[[vm.web.nic]]
[[vm.web.nic]]
"""


def make(text=TEXT):
    """The plan of a document's machine, its switches, and stand-in handles."""
    (plan,) = plan_text(text).machines.values()
    handles = Handles.from_numbers(plan)
    return plan, list(make_switches(plan, handles)), handles


def find(switches, kind):
    """The switches of one class."""
    return [switch for switch in switches if isinstance(switch, kind)]


def test_every_machine_starts_paused_and_bare():
    """`-S`, no default devices, no configuration file of the user."""
    plan, _, handles = make()
    words = make_argv(plan, handles, QEMU)
    assert words[0] == str(QEMU)
    assert {"-S", "-nodefaults", "-no-user-config"} <= set(words)


def test_paths_need_no_quoting():
    """Commas and quotes go through JSON, and -kernel and -append are words of their own."""
    plan, switches, _ = make()
    (boot,) = find(switches, DirectBoot)
    assert boot.args() == ("-kernel", "/golden/k,ernel", "-append", "-S, a=b,c")
    nodes = [json.loads(node.args()[1]) for node in find(switches, BlockdevProtocol)]
    assert str(plan.disks[0].path) in {node["filename"] for node in nodes}


def test_a_chain_is_written_from_the_bottom_up():
    """Each node names the one below it, which is there already; only the top is written to."""
    _, switches, _ = make()
    seen = {}
    for node in find(switches, BlockdevFormat):
        properties = node.properties()
        below = properties.get("backing")
        assert below is None or seen[below]["read-only"]
        seen[properties["node-name"]] = properties
    assert seen["disk0"]["backing"] == "disk0-base1"
    assert seen["disk0-base1"]["backing"] is None
    assert "read-only" not in seen["disk0"]
    assert seen["disk1"]["read-only"]
    assert "backing" not in seen["disk1"]


def test_back_ends_and_buses_come_before_the_devices_on_them():
    """QEMU resolves names in order."""
    _, switches, _ = make()
    ports = [switches.index(port) for port in find(switches, DeviceController)]
    disks = [switches.index(disk) for disk in find(switches, DeviceVirtioBlk)]
    assert max(ports) < min(disks)
    for disk in find(switches, DeviceVirtioBlk):
        nodes = {node.node_name: node for node in find(switches, BlockdevFormat)}
        assert switches.index(nodes[disk.block.drive]) < switches.index(disk)


def test_cold_and_hot_form_are_the_same():
    """What the command line says is what QMP would take."""
    _, switches, _ = make()
    hot = [switch for switch in switches if hasattr(switch, "properties")]
    assert hot
    for switch in hot:
        assert json.loads(switch.args()[1]) == switch.properties()


def test_every_handle_is_used_once():
    """Three sockets, a log, and for each card a tap and vhost-net."""
    plan, switches, handles = make()
    taps = [handles.find_all(f"{nic.id}.queue") for nic in plan.nics]
    assert [netdev.queues for netdev in find(switches, NetdevTap)] == taps
    assert sorted(handles.fds) == list(range(3, 11))
    words = "\n".join(make_argv(plan, handles, QEMU))
    for fd in (handles["qmp"], handles["monitor"], handles["console"], handles["console.log"]):
        assert words.count(f"fd={fd},") == 1


def test_an_encrypted_volume_is_opened_with_its_passphrase():
    """A disk that is an encrypted volume of the file knows the volume's passphrase file."""
    text = """
    [volume.data]
    size = "1GiB"
    passphrase_file = "key"
    [vm.web]
    [[vm.web.disk]]
    volume = "data"
    """
    (machine,) = plan_text(text).machines.values()
    words = make_argv(machine, Handles.from_numbers(machine), Path("qemu"))
    joined = " ".join(words)
    assert '"id": "disk0-secret"' in joined
    assert '"file": "/golden/key"' in joined
    assert '"encrypt": {"format": "luks", "key-secret": "disk0-secret"}' in joined


def test_a_logical_volume_is_a_device():
    """A volume in LVM is raw by default and opened as the block device that it is going to be."""
    text = """
    [pool.fast]
    type = "lvm"
    vg = "HostVG"
    [vm.web]
    [[vm.web.disk]]
    pool = "fast"
    size = "1GiB"
    """
    (machine,) = plan_text(text).machines.values()
    (protocol,) = [
        switch.properties()
        for switch in make_switches(machine, Handles.from_numbers(machine))
        if isinstance(switch, BlockdevProtocol)
    ]
    assert protocol["driver"] == "host_device"
    assert protocol["filename"] == "/dev/HostVG/web-disk0"
    assert machine.disks[0].chain[0].format == "raw"


def test_spice_listens_somewhere():
    """At its port, at a free one, at a socket of qorch's own, or for viewers on the host alone."""
    ports = {}
    addresses = ("listen = '::1'", "listen = '::1'\nport = 5907", "listen = '::1'\ntls_port = 1")
    for words in (*addresses, "", "gl = true"):
        plan, *_ = make(f"[vm.web]\nkernel = 'k'\n[vm.web.spice]\n{words}")
        handles = Handles({**Handles.from_numbers(plan).numbers}, spice_port=5905)
        (spice,) = find(make_switches(plan, handles), Spice)
        ports[words] = (spice.port, spice.tls_port, spice.unix)
    assert list(ports.values()) == [
        (5905, None, None),
        (5907, None, None),
        (None, 1, None),
        (None, None, True),
        (0, None, None),
    ]


def test_several_threads_share_a_disk():
    """Each with the queues that it serves, or QEMU deals them out."""
    threads = "[{ id = 'a', queues = [1] }, { id = 'b', queues = [0] }]"
    lines = (
        "[vm.a]",
        "kernel = 'k'",
        "iothread = [{ id = 'a' }, { id = 'b' }]",
        f"disk = [{{ path = '1.raw', queues = 2, iothreads = {threads} }},",
        "{ path = '2.raw', iothreads = [{ id = 'b' }] }]",
    )
    plan = plan_text("\n".join(lines)).machines["a"]
    switches = make_switches(plan, Handles.from_numbers(plan))
    words = [item.properties() for item in switches if isinstance(item, DeviceVirtioBlk)]
    assert [item["iothread-vq-mapping"] for item in words] == [
        [{"iothread": "a", "vqs": [1]}, {"iothread": "b", "vqs": [0]}],
        [{"iothread": "b"}],
    ]
