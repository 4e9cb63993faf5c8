import string
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import goldens
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch.convert import get_converter, make_plain
from qorch.plan import MachinePlan
from qorch.spec import (
    Accel,
    BalloonSpec,
    CloudInitSpec,
    ConsoleSpec,
    CpuSpec,
    DhcpSpec,
    DiskSpec,
    MachineSpec,
    MachineType,
    MemorySpec,
    NetworkSpec,
    NicSpec,
    PoolSpec,
    ReadySpec,
    Spec,
    UserSpec,
    VolumeSpec,
)
from qorch.units import Duration, Mac, Name, Pin, Size
from qorch_storage.plan import ImageFormat

CONVERTER = get_converter()

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
names = st.builds(Name, st.text(string.ascii_lowercase, min_size=1, max_size=9))
paths = st.builds(Path, texts.filter(bool))
sizes = st.builds(Size, st.integers(0, 1 << 62))
pins = st.builds(Pin, st.frozensets(st.integers(0, 99)))
ips = st.builds(IPv4Address, st.integers(0, (1 << 32) - 1))
subnets = st.builds(lambda ip: IPv4Network((ip, 24), strict=False), ips)
macs = st.builds(lambda number: Mac(f"52:54:00:{number.to_bytes(3).hex(':')}"), st.integers(0, 255))
durations = st.builds(lambda ms: Duration(ms / 1000), st.integers(0, 10**9))
formats = st.sampled_from(ImageFormat)


def maybe(strategy):
    """Or None."""
    return st.none() | strategy


def many(strategy):
    """A few of them."""
    return st.lists(strategy, max_size=2).map(tuple)


volume_fields = {
    "pool": names,
    "size": maybe(sizes),
    "format": maybe(formats),
    "backing": maybe(paths),
    "backing_format": maybe(formats),
}
machines = st.builds(
    MachineSpec,
    machine=st.sampled_from([MachineType("q35"), MachineType("microvm")]),
    accel=st.sampled_from(Accel),
    uuid=maybe(st.uuids()),
    cpu=st.builds(CpuSpec, count=st.integers(0, 9), model=maybe(texts), pin=many(pins)),
    memory=st.builds(MemorySpec, size=sizes, balloon=st.builds(BalloonSpec, enabled=st.booleans())),
    kernel=maybe(paths),
    append=maybe(texts),
    disks=many(
        st.builds(
            DiskSpec,
            path=maybe(paths),
            volume=maybe(names),
            read_only=st.booleans(),
            serial=maybe(texts),
            **volume_fields,
        )
    ),
    nics=many(st.builds(NicSpec, network=names, mac=maybe(macs), ip=maybe(ips))),
    console=st.builds(ConsoleSpec, log_size=sizes),
    cloud_init=maybe(
        st.builds(
            CloudInitSpec,
            hostname=maybe(names),
            users=many(
                st.builds(UserSpec, name=texts, ssh_keys=many(texts), ssh_key_files=many(paths))
            ),
        )
    ),
    ready=st.builds(ReadySpec, console=maybe(texts), tcp=maybe(st.integers(0, 99))),
    powerdown_timeout=durations,
)
networks = st.builds(
    NetworkSpec,
    subnet=maybe(subnets),
    gateway=maybe(ips),
    dhcp=maybe(st.builds(DhcpSpec, start=ips, end=ips)),
    domain=maybe(names),
    bridge=maybe(texts),
)
specs = st.builds(
    Spec,
    vms=st.dictionaries(names, machines, max_size=2),
    networks=st.dictionaries(names, networks, max_size=2),
    pools=st.dictionaries(names, st.builds(PoolSpec, path=paths), max_size=1),
    volumes=st.dictionaries(names, st.builds(VolumeSpec, **volume_fields), max_size=1),
)


@given(specs)
def test_a_spec_survives_being_stored(spec):
    """Every spec, turned into plain data and read again, is itself."""
    assert CONVERTER.structure(make_plain(spec), Spec) == spec


@pytest.mark.parametrize("name", goldens.find_names())
def test_a_plan_survives_being_stored(name):
    """The plan of every golden machine, turned into plain data and read again, is itself."""
    plan = goldens.plan_golden(name)
    assert CONVERTER.structure(make_plain(plan), MachinePlan) == plan


def test_what_is_stored_has_the_names_of_the_file():
    """Tables are singular, defaults are left out, quantities are text."""
    spec = Spec(vms={Name("web"): MachineSpec(disks=(DiskSpec(size=Size(1 << 30)),))})
    assert make_plain(spec) == {"vm": {"web": {"disk": [{"size": "1GiB"}]}}}
