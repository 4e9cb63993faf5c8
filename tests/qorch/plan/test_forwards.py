"""Forwarded ports: each leads to a machine of its network, and each port is promised once."""

import pytest
from fake_host import plan_text

from qorch.errors import InputError
from qorch.plan import Defined

WEB = '[vm.web]\nkernel = "k"\n[[vm.web.nic]]\nnetwork = "lan"\n'
LAN = '[network.lan]\nsubnet = "192.168.150.0/24"\nforward = [{}]\n'
DMZ = '[network.dmz]\nsubnet = "192.168.151.0/24"\nforward = [{}]\n'
FIRST = '{ host_port = 8080, vm = "web", port = 80 }'


def refuse(text, **options):
    """What a document is refused for: one problem."""
    with pytest.raises(InputError) as caught:
        plan_text(text, **options)
    (problem,) = caught.value.problems
    return problem.path, problem.message


def test_a_forward_leads_to_the_machine():
    """By its planned address, in the network's plan."""
    plan = plan_text(WEB + LAN.format(FIRST))
    (forward,) = plan.networks["lan"].forwards
    assert (forward.host_port, forward.name, forward.port) == (8080, "web", 80)


def test_unknown_machine():
    """A machine that nobody knows."""
    text = WEB + LAN.format('{ host_port = 1, vm = "wbe" }')
    assert refuse(text) == ("network.lan.forward[0].vm", "there is no machine 'wbe'")


def test_machine_on_another_network():
    """A machine without a card on the network."""
    assert refuse(WEB + '[network.lan]\nsubnet = "192.168.150.0/24"\n' + DMZ.format(FIRST)) == (
        "network.dmz.forward[0].vm",
        "web has no network card on dmz",
    )


@pytest.mark.parametrize(
    ("second", "port"),
    [
        ('{ host_port = 8080, ip = "192.168.150.7", port = 1 }', 8080),
        ('{ host_port = 8000, ip = "192.168.150.7", count = 100 }', 8080),
        ('{ host_port = 8080, host = "10.0.0.1", ip = "192.168.150.7" }', 8080),
    ],
)
def test_one_port_twice(second, port):
    """The same port in one network, in a row of ports, at one address and at all."""
    assert refuse(WEB + LAN.format(f"{FIRST}, {second}")) == (
        "network.lan.forward[1].host_port",
        f"{port}/tcp is forwarded already by lan",
    )


@pytest.mark.parametrize(
    "second",
    [
        '{ host_port = 8080, ip = "192.168.150.7", proto = "udp" }',
        '{ host_port = 8081, ip = "192.168.150.7" }',
    ],
)
def test_ports_side_by_side(second):
    """Another protocol or another port is in nobody's way."""
    assert plan_text(WEB + LAN.format(f"{FIRST}, {second}"))


def test_one_port_in_two_networks():
    """Of two networks in one document, and of one that is defined already."""
    theirs = DMZ.format('{ host_port = 8080, ip = "192.168.151.7" }')
    path, message = refuse(WEB + LAN.format(FIRST) + theirs)
    assert path == "network.dmz.forward[0].host_port"
    assert message == "8080/tcp is forwarded already by lan"
    defined = Defined(networks=plan_text(theirs).networks)
    path, message = refuse(WEB + LAN.format(FIRST), defined=defined)
    assert (path, message) == (
        "network.lan.forward[0].host_port",
        "8080/tcp is forwarded already by dmz",
    )


def test_a_forward_does_not_clash_with_itself():
    """A document that is brought up again."""
    text = WEB + LAN.format(FIRST)
    plan = plan_text(text)
    again = plan_text(text, defined=Defined(networks=plan.networks, machines=plan.machines))
    assert again.networks == plan.networks
