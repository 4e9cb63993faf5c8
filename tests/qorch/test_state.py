import json
import os
import resource
import signal
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import goldens
import pytest
from fake_host import plan_text

from qorch.convert import get_converter, make_plain
from qorch.errors import QorchError
from qorch.load import load_text
from qorch.paths import StateDir
from qorch.plan import MachinePlan
from qorch.state import VERSION, Definition, NetworkDefinition, Store, read_json, write_json
from qorch_net.plan import (
    Dhcp6Range,
    DhcpOption,
    DhcpRange,
    MacvtapMode,
    NetworkPlan,
    PortForward,
    Rate,
    TapPlan,
    Transport,
)

TEXT = "[vm.web]\nkernel = 'k'\ncpus = 2\nnic = [{}]\npowerdown_timeout = '1234ms'\n"


@pytest.fixture
def store(tmp_path):
    """The definitions of an empty state directory."""
    return Store(StateDir.from_directory(tmp_path))


def make_definition(text=TEXT):
    """A machine as `up` stores it."""
    (spec,) = load_text(text, goldens.ROOT).vms.values()
    (plan,) = plan_text(text).machines.values()
    return Definition(version=VERSION, spec=spec, plan=plan)


def test_nothing_is_defined_in_an_empty_directory(store):
    """And looking makes no directory."""
    assert (store.read_machines(), store.read_networks(), store.find_runs()) == ({}, {}, [])
    assert store.read_run("web") is None
    assert not store.state.data.exists()


@pytest.mark.parametrize("name", goldens.find_names())
def test_a_machine_reads_back_as_it_was_stored(store, name):
    """Spec and plan of every golden machine, to the last field."""
    text = (goldens.DIRECTORY / f"{name}.toml").read_text()
    (spec,) = load_text(text, goldens.ROOT).vms.values()
    definition = Definition(version=VERSION, spec=spec, plan=goldens.plan_golden(name))
    store.write_machine(definition)
    assert store.read_machines() == {"web": definition}


def test_a_network_reads_back_as_it_was_stored(store):
    """With whether it is a built-in one."""
    (plan,) = plan_text(TEXT).networks.values()
    definition = NetworkDefinition(version=VERSION, plan=plan, builtin=True)
    store.write_network(definition)
    assert store.read_networks() == {"default": definition}
    store.remove_network("default")
    assert store.read_networks() == {}


def test_every_field_of_a_network_and_a_tap_is_stored():
    """Whatever a plan of the host's network can say survives the way to disk and back."""
    network = NetworkPlan(
        name="lan",
        owner="0123abcd",
        bridge="br0",
        mac="02:00:00:00:00:01",
        vlan_filtering=True,
        stp=True,
        forward_delay=200,
        mtu=9000,
        gateway=IPv4Interface("10.0.0.1/24"),
        gateway6=IPv6Interface("fd00::1/64"),
        dhcp=DhcpRange(start=IPv4Address("10.0.0.9"), end=IPv4Address("10.0.0.99")),
        dhcp6=Dhcp6Range(start=IPv6Address("fd00::9"), end=IPv6Address("fd00::99")),
        ra=True,
        domain="lan.example",
        dns=(IPv4Address("10.9.9.9"), IPv6Address("fd09::9")),
        dhcp_options=(DhcpOption(option="ntp-server", value="10.0.0.1"),),
        forwards=(PortForward(proto=Transport.UDP, host_port=53, name="web", port=53, count=2),),
        isolated_guests=True,
        reach=("br1",),
    )
    tap = TapPlan(
        name="t0",
        owner="0123abcd",
        label="vm/web/nic0",
        uplink="eth0",
        macvtap=MacvtapMode.VEPA,
        mac="52:54:00:00:00:01",
        ips=(IPv4Address("10.0.0.9"), IPv6Address("fd00::9")),
        antispoof=True,
        trunk=(10, 20),
        native=30,
        rate_in=Rate(rate=125_000, burst=10_000),
        rate_out=Rate(rate=125_000),
        up=False,
    )
    converter = get_converter()
    for value in (network, tap):
        stored = json.dumps(make_plain(value))
        assert converter.structure(json.loads(stored), type(value)) == value


def test_a_run_is_recorded_and_forgotten(store):
    """What a machine was started as, until it is cleaned up after."""
    plan = make_definition().plan
    store.write_run(plan)
    assert (store.find_runs(), store.read_run("web")) == (["web"], plan)
    store.forget_run("web")
    assert (store.find_runs(), store.read_run("web")) == ([], None)


def test_a_removed_machine_leaves_nothing(store):
    """No definition, no run, no directory; twice is no error."""
    definition = make_definition()
    store.write_machine(definition)
    store.write_run(definition.plan)
    for _ in range(2):
        store.remove_machine("web")
        assert not store.state.machine_data("web").exists()
        assert not store.state.machine_run("web").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"version": 1}', "\udcff"])
def test_a_damaged_file_gives_one_clear_error(store, damage):
    """It names the file and is no traceback."""
    path = store.state.machine_data("web") / "definition.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage.encode(errors="surrogateescape"))
    with pytest.raises(QorchError) as caught:
        store.read_machines()
    assert str(path) in caught.value.message
    assert "damaged" in caught.value.hint


def test_an_unknown_key_in_a_stored_file_is_an_error(store):
    """A later version's definition is not half understood."""
    store.write_machine(make_definition())
    path = store.state.machine_data("web") / "definition.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "new": 1}))
    with pytest.raises(QorchError, match="cannot be read"):
        store.read_machines()


def test_a_removal_that_was_killed_is_ended(store):
    """What was of a machine whose definition is gone goes, too; what is defined stays."""
    store.write_machine(make_definition())
    for name in ("vm/gone", "network/lan"):
        (store.state.data / name).mkdir(parents=True)
        (store.state.data / name / "console.log").touch()
    store.remove_remains()
    assert [*store.state.data.glob("*/*")] == [store.state.machine_data("web")]


def test_a_half_written_definition_is_no_machine(store):
    """A directory without a definition is what a crash before the first write leaves."""
    store.state.machine_data("web").mkdir(parents=True)
    assert store.read_machines() == {}


def test_a_write_that_fails_leaves_the_old_file(store):
    """No half of the new one, no temporary file."""
    plan = make_definition().plan
    store.write_run(plan)
    path = store.state.machine_run("web") / "plan.json"
    with pytest.raises(TypeError):
        write_json(path, object())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))  # a disk that is full
    try:
        with pytest.raises(QorchError, match=r"cannot write .*File too large"):
            write_json(path, plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [entry.name for entry in path.parent.iterdir()] == ["plan.json"]
    assert read_json(path, MachinePlan) == plan


def test_a_crash_while_writing_leaves_the_old_file(store):
    """SIGKILL between the first byte and the rename; the next write is none the worse for it."""
    plan = make_definition().plan
    store.write_run(plan)
    path = store.state.machine_run("web") / "plan.json"
    pid = os.fork()
    if not pid:  # a child that is killed by the kernel in the middle of its write
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
        write_json(path, plan)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGXFSZ
    assert len(list(path.parent.iterdir())) == 2
    assert store.read_run("web") == plan
    store.write_run(plan)
    assert [entry.name for entry in path.parent.iterdir()] == ["plan.json"]
