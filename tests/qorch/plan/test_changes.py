from pathlib import Path

import attrs
from fake_host import NETWORK, make_facts, plan_text

from qorch.load import load_text
from qorch.plan import Defined, make_changes, make_plan, make_removals
from qorch_net.host import Link

ROOT = Path("/golden")
TEXT = """
[vm.web]
accel = "tcg"
memory = "1GiB"
cpus = 2
[[vm.web.disk]]
backing = "base.qcow2"
[[vm.web.nic]]
network = "lan"
[network.lan]
subnet = "10.9.0.0/24"
[volume.data]
size = "1GiB"
"""
POOL = "/golden/data/pool/default"


def define(text):
    """What is defined once this document is up."""
    plan = plan_text(text)
    return Defined(machines=plan.machines, networks=plan.networks)


def find_changes(text, *, defined=None, running=None, up=(), volumes=()):
    """The changes as tuples, on a host where these machines, bridges and volumes are."""
    defined = defined or Defined()
    links = [
        Link(index=9, name=network.bridge, up=True, kind="bridge", alias=network.mark.alias)
        for network in up
    ]
    spec = load_text(text, ROOT)
    facts = make_facts(
        spec,
        network=attrs.evolve(NETWORK, links=(*NETWORK.links, *links)),
        volumes=frozenset(map(Path, volumes)),
    )
    plan = make_plan(spec, facts, defined)
    return [attrs.astuple(change) for change in make_changes(plan, facts, defined, running or {})]


def test_on_an_empty_host_everything_is_created():
    """Networks, volumes, machines: in the order of `up`."""
    (network,) = plan_text(TEXT).networks.values()
    assert find_changes(TEXT) == [
        ("create", "network", "lan", f"bridge {network.bridge}, nat 10.9.0.0/24"),
        ("create", "volume", "data", f"{POOL}/data.qcow2"),
        ("create", "volume", "web-disk0", f"{POOL}/web-disk0.qcow2 over /golden/base.qcow2"),
        ("create", "vm", "web", "2 CPUs, 1GiB, start"),
    ]


def test_what_is_there_stays():
    """A second `up` changes nothing."""
    defined = define(TEXT)
    changes = find_changes(
        TEXT,
        defined=defined,
        running=defined.machines,
        up=defined.networks.values(),
        volumes=[f"{POOL}/data.qcow2", f"{POOL}/web-disk0.qcow2"],
    )
    assert {change[0] for change in changes} == {"none"}


def test_a_machine_that_does_not_run_is_started():
    """It is defined and the same: only the start is missing."""
    defined = define(TEXT)
    changes = find_changes(TEXT, defined=defined, up=defined.networks.values())
    assert changes[-1] == ("change", "vm", "web", "start")


def test_a_running_machine_is_restarted_with_what_differs():
    """Old and new values, by key, as the file writes them."""
    changed = TEXT.replace("1GiB", "2GiB", 1).replace("tcg", "kvm").replace("cpus = 2", "cpus = 1")
    defined = define(TEXT)
    change = find_changes(changed, defined=defined, running=defined.machines)[-1]
    assert change == (
        "restart",
        "vm",
        "web",
        (
            "accel tcg → kvm, cpu.count 2 → 1, cpu.model max → host, memory.size 1GiB → 2GiB,"
            " nics.0.tap.vhost false → true"
        ),
    )


def test_a_running_machine_is_compared_as_it_runs():
    """Its definition may say something else already."""
    changed = TEXT.replace("cpus = 2", "cpus = 1")
    change = find_changes(changed, defined=define(changed), running=define(TEXT).machines)[-1]
    assert change == ("restart", "vm", "web", "cpu.count 2 → 1")


def test_a_stopped_machine_is_changed_and_started():
    """The same difference, without a restart."""
    changed = TEXT.replace("cpus = 2", "cpus = 1")
    change = find_changes(changed, defined=define(TEXT))[-1]
    assert change == ("change", "vm", "web", "cpu.count 2 → 1; start")


def test_a_part_that_is_new_is_not_spelled_out():
    """Its key is enough."""
    changed = TEXT + '[[vm.web.nic]]\nnetwork = "lan"\n'
    defined = define(TEXT)
    detail = find_changes(changed, defined=defined, running=defined.machines)[-1][3]
    assert "nics.1 none → …" in detail


def test_a_network_that_differs_is_changed():
    """With what differs; the machines on it do not count."""
    defined = define(TEXT)
    changed = TEXT.replace('"10.9.0.0/24"', '"10.9.0.0/24"\ndomain = "home"')
    change = find_changes(changed, defined=defined, up=defined.networks.values())[0]
    assert change == ("change", "network", "lan", "domain lan → home")


def test_a_network_whose_bridge_is_gone_is_created_again():
    """What exists is read from the kernel, not from a record."""
    assert find_changes(TEXT, defined=define(TEXT))[0][0] == "create"


def test_down_removes_what_the_file_defines_and_what_is_there():
    """Machines first; what was never made is no change."""
    defined = define(TEXT)
    spec = load_text(TEXT + "[network.other]\n[vm.other]\nkernel = 'k'\n", ROOT)
    bridge = defined.networks["lan"].bridge
    changes = [attrs.astuple(change) for change in make_removals(spec, defined, ["web"])]
    assert changes == [
        ("remove", "vm", "web", "stop, remove"),
        ("remove", "network", "lan", f"bridge {bridge}, nat 10.9.0.0/24"),
    ]
    assert make_removals(spec, Defined(), []) == []
    assert make_removals(spec, defined, [])[0].detail == "remove"
