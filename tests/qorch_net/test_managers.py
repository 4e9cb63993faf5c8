"""NetworkManager and systemd-networkd are recognised by what they write into /run."""

import pytest

from qorch_net.host import Link
from qorch_net.managers import find_managers, read_managers

LINKS = (Link(index=2, name="eth0", up=True), Link(index=3, name="eth1", up=True))


@pytest.mark.parametrize(
    ("path", "text", "manager"),
    [
        ("NetworkManager/devices/2", "[device]\nmanaged=true\nnm-owned=false\n", "NetworkManager"),
        ("NetworkManager/devices/2", "[device]\nmanaged=false\n", None),
        ("systemd/netif/links/2", "ADMIN_STATE=configured\nOPER_STATE=x\n", "systemd-networkd"),
        ("systemd/netif/links/2", "ADMIN_STATE=configuring\n", "systemd-networkd"),
        ("systemd/netif/links/2", "ADMIN_STATE=unmanaged\n", None),
        ("systemd/netif/links/7", "ADMIN_STATE=configured\n", None),
    ],
)
def test_manager_is_read_from_its_files(tmp_path, path, text, manager):
    """By interface index; what they only list, but leave alone, is nobody's."""
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert read_managers(LINKS, tmp_path) == ({"eth0": manager} if manager else {})


def test_managers_of_the_host_do_not_matter_in_other_namespaces(lab):
    """An index of another network namespace means nothing here."""
    assert find_managers(LINKS) == {}
