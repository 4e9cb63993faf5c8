import json

import pytest
from fake_host import plan_text
from hypothesis import given
from hypothesis import strategies as st

from qorch.convert import get_converter, make_plain
from qorch.errors import InputError
from qorch.plan import Defined, MachinePlan
from qorch.units import Name

KINDS = {
    "nic": ["{}", "{ model = 'e1000' }", "{ model = 'rtl8139' }", "{ model = 'usb-net' }"],
    "disk": ["{ size = '1GiB' }"],
    "rng": ["{}"],
    "channel": ["{ name = 'a' }"],
    "serial": ["{ model = 'pci-serial' }", "{ model = 'usb-serial' }"],
    "watchdog": ["{}"],
    "controller": ["{ model = 'virtio-scsi-pci' }", "{ model = 'pcie-pci-bridge' }"],
}


def make_text(devices, machine="q35"):
    """A machine with these devices."""
    lists = {}
    for kind, what in devices:
        parts = lists.setdefault(kind, [])
        parts.append(what.replace("'a'", f"'a{len(parts)}'"))  # no two channels of one name
    tables = "".join(f"{kind} = [{', '.join(parts)}]\n" for kind, parts in lists.items())
    return f"[vm.web]\nkernel = 'k'\nmachine = '{machine}'\n{tables}"


def plan(text, **facts):
    """The plan of the machine."""
    return plan_text(text, **facts).machines["web"]


def refuse(text):
    """The problems of a document by path."""
    with pytest.raises(InputError) as caught:
        plan_text(text)
    return {problem.path: problem.message for problem in caught.value.problems}


def drivers(machine: MachinePlan):
    """The controllers by id."""
    return {controller.id: controller.driver for controller in machine.controllers}


DEVICES = st.lists(
    st.sampled_from([(kind, what) for kind, parts in KINDS.items() for what in parts]),
    max_size=24,
)


@given(DEVICES, st.sampled_from(["q35", "pc"]))
def test_no_two_devices_share_a_place(devices, machine):
    """Whatever a machine has, each device has a place of its own, on a bus that is there."""
    if machine == "pc":
        devices = [(kind, what) for kind, what in devices if "pcie" not in what]
    planned = plan(make_text(devices, machine))
    places = planned.places()
    points = [(place.bus, place.addr) for place in places.values() if place.addr]
    assert len(set(points)) == len(points)
    units = [place for place in places.values() if place.bus and not place.addr]
    assert len(set(units)) == len(units)
    ids = {"pcie.0", "pci.0", *(controller.id for controller in planned.controllers)}
    assert {bus for bus, _ in points} <= ids
    order = [controller.id for controller in planned.controllers]
    for controller in planned.controllers:
        parent = (controller.place.bus or "").removesuffix(".0")
        assert parent not in order or order.index(parent) < order.index(controller.id)


@given(DEVICES, st.sampled_from(KINDS["nic"][:3] + KINDS["disk"]), st.sampled_from(["q35", "pc"]))
def test_what_is_added_moves_nothing(devices, new, machine):
    """A machine that is planned again with one device more keeps all places."""
    devices = [pair for pair in devices if pair[0] != "controller"]
    kind = "disk" if "size" in new else "nic"
    first = plan_text(make_text(devices, machine))
    defined = Defined(machines={Name("web"): first.machines["web"]})
    text = make_text([*devices, (kind, new)], machine)
    before = first.machines["web"].places()
    again = plan(text, defined=defined).places()
    ports = {id_ for id_ in before if id_.startswith("rp")}  # fewer may be spare
    assert {id_: again[id_] for id_ in before.keys() - ports} == {
        id_: before[id_] for id_ in before.keys() - ports
    }


@given(st.integers(0, 8), st.integers(0, 8))
def test_places_do_not_depend_on_other_kinds(nics, disks):
    """Cards and disks have slots of their own, also in a machine that nobody has seen before."""
    alone = plan(make_text([("nic", "{}")] * nics)).places()
    both = plan(
        make_text([("nic", "{}")] * nics + [("disk", "{ size = '1GiB' }")] * disks)
    ).places()
    assert {id_: both[id_] for id_ in alone} == alone


def test_explicit_addresses_win():
    """An address in the file is taken as it is, and what would have been there moves."""
    text = make_text([("nic", "{}"), ("nic", "{ address = { bus = 'pcie.0', slot = 2 } }")])
    places = plan(text).places()
    assert (places["nic1"].bus, places["nic1"].addr) == ("pcie.0", "0x2.0x0")
    assert places["nic0"].bus != "rp16"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("{ slot = 5 }", "slot 0x5 function 0 of pcie.0 belongs to vm.web.nic[0]"),
        ("{ slot = 0x1f }", "slot 0x1f function 0 of pcie.0 belongs to the chipset"),
        ("{ slot = 32 }", "bus pcie.0 has no slot 0x20"),
        ("{ slot = 6, function = 8 }", "8 is no function of a slot"),
        ("{ bus = 'pci.7', slot = 1 }", "there is no PCI bus 'pci.7'"),
    ],
)
def test_addresses_that_cannot_be_are_refused(address, message):
    """Each with its path, and who is there."""
    nics = [("nic", "{ address = { slot = 5 } }"), ("nic", f"{{ address = {address} }}")]
    assert refuse(make_text(nics)) == {"vm.web.nic[1].address": message}


def test_functions_of_one_slot_make_it_multifunction():
    """Function 0 says that there are more."""
    address = "{{ address = {{ slot = 9, function = {} }} }}"
    nics = [("nic", address.format(function)) for function in (0, 1)]
    places = plan(make_text(nics)).places()
    assert (places["nic0"].multifunction, places["nic1"].multifunction) == (True, None)


def test_functions_without_a_first_one_are_noted():
    """QEMU and libvirt take them, but no guest looks for them."""
    address = "{{ model = 'e1000', address = {{ bus = 'pcie.0', slot = 9, function = {} }} }}"
    nics = [("nic", address.format(function)) for function in (1, 2)]
    (note,) = plan_text(make_text(nics)).notes
    assert note.name == "web"
    assert note.message.startswith("guests do not find vm.web.nic[0], vm.web.nic[1]: slot 0x9 of")
    assert plan_text(make_text([*nics, ("nic", address.format(0))])).notes == ()


def test_a_controller_alone_is_where_guests_find_it():
    """The EHCI of ICH9 is function 7 beside its companions; without them it is function 0."""
    ehci, uhci = (("controller", f"{{ model = 'ich9-usb-{x}1' }}") for x in ("ehci", "uhci"))
    assert plan(make_text([ehci])).places()["controller0"].addr.endswith(".0x0")
    assert plan(make_text([ehci, uhci])).places()["controller0"].addr == "0x1d.0x7"


def test_a_single_function_has_its_slot_alone():
    """QEMU refuses others beside a function 0 that says so; what another one says is in vain."""
    address = "{{ address = {{ slot = 9, function = {}, multifunction = false }} }}"
    one, other = (("nic", address.format(function)) for function in (0, 1))
    message = "false keeps vm.web.nic[1] out of slot 0x9 of pcie.0"
    assert refuse(make_text([one, other])) == {"vm.web.nic[0].address.multifunction": message}
    first = ("nic", "{ address = { slot = 9 } }")
    assert plan(make_text([first, other])).places()["nic0"].multifunction is True


def test_conventional_cards_are_behind_a_bridge_on_q35():
    """Where they can be unplugged; on pc they are on the root bus."""
    q35 = plan(make_text([("nic", "{ model = 'rtl8139' }")]))
    assert drivers(q35)[q35.places()["nic0"].bus] == "pcie-pci-bridge"
    assert plan(make_text([("nic", "{ model = 'rtl8139' }")], "pc")).places()["nic0"].bus == "pci.0"


def test_a_full_root_bus_gets_a_bridge():
    """More than 28 cards on pc."""
    machine = plan(make_text([("nic", "{}")] * 40, "pc"))
    assert drivers(machine) == {"pci-bridge0": "pci-bridge"}
    assert len({(place.bus, place.addr) for place in machine.places().values()}) >= 43


def test_usb_hubs_come_when_the_ports_are_taken():
    """PIIX3 has two ports; a hub takes one and gives eight."""
    machine = plan(make_text([("serial", "{ model = 'usb-serial' }")] * 4, "pc"))
    assert drivers(machine) == {"usb": "piix3-usb-uhci", "usb-hub0": "usb-hub"}
    ports = [machine.places()[f"serial{index}"].port for index in range(4)]
    assert ports == ["2", "1.1", "1.2", "1.3"]


def test_channels_leave_port_0_to_a_console():
    """Virtio 1.2 reserves it."""
    text = make_text([("channel", "{ name = 'a' }")]) + "console = { device = 'virtconsole' }\n"
    places = plan(text).places()
    assert (places["console"].nr, places["channel0"].nr) == (0, 1)


def test_a_microvm_has_no_pci_devices():
    """Virtio devices do without; all others are named."""
    nics = [("nic", "{}"), ("nic", "{ model = 'e1000' }")]
    assert refuse(make_text(nics, "microvm")) == {"vm.web.nic[1]": "a microvm has no PCI bus"}


def test_plans_are_stored_and_read_back():
    """As JSON, places and specs included."""
    pairs = [(kind, what) for kind, parts in KINDS.items() for what in parts]
    machine = plan(make_text(pairs))
    converter = get_converter()
    stored = json.loads(json.dumps(make_plain(machine)))
    assert converter.structure(stored, MachinePlan) == machine
