import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch.pci import MAX_PORTS, make_root_ports


@given(st.integers(0, MAX_PORTS), st.integers(0, MAX_PORTS))
def test_ports_do_not_move(one, other):
    """More devices never change the place of those before them."""
    shorter = min(one, other)
    assert make_root_ports(one)[:shorter] == make_root_ports(other)[:shorter]


def test_no_two_ports_share_a_place():
    """Every port has a name, a chassis and an address of its own, clear of VGA and chipset."""
    ports = make_root_ports(MAX_PORTS)
    assert len({port.id for port in ports}) == MAX_PORTS
    assert len({port.chassis for port in ports}) == MAX_PORTS
    assert len({(port.slot, port.function) for port in ports}) == MAX_PORTS
    assert {port.slot for port in ports} == set(range(2, 0x1C))
    assert all(port.multifunction == (port.function == 0) for port in ports)


def test_a_full_bus_is_refused():
    """One more than there is room for says how many there can be."""
    with pytest.raises(ValueError, match=f"there is room for {MAX_PORTS}"):
        make_root_ports(MAX_PORTS + 1)
