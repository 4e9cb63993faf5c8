"""Taps: on their bridge as long as somebody holds them, gone after that."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from qorch_net import tap
from qorch_net.errors import NetError
from qorch_net.plan import TapPlan
from qorch_net.probe import find_owned
from qorch_net.tap import open_tap

pytestmark = pytest.mark.live


def make_tap(lab, **changes):
    """Plan a tap on the lab's network."""
    values = {
        "name": "qtest1-web",
        "owner": lab.owner,
        "label": "vm/web/nic0",
        "bridge": lab.make_plan().bridge,
        "mtu": 1400,
    }
    return TapPlan(**{**values, **changes})


def test_tap_lives_as_long_as_its_descriptor(lab, tools):
    """Marked, plugged in and up while it is open; gone when the last copy closes."""
    lab.ensure(lab.make_plan())
    with open_tap(make_tap(lab)) as opened:
        (descriptor,) = opened.queues
        assert not os.get_inheritable(descriptor)
        link = json.loads(tools.run("ip", "-j", "-d", "link", "show", "qtest1-web"))[0]
        assert link["ifalias"] == f"qorch:{lab.owner}:vm/web/nic0"
        assert link["master"] == lab.make_plan().bridge
        assert link["mtu"] == 1400
        assert "UP" in link["flags"]
        assert link["linkinfo"]["info_data"]["persist"] is False
        assert link["linkinfo"]["info_data"]["vnet_hdr"] is True
        copy = os.dup(descriptor)
    assert [x.name for x in find_owned(lab.owner).taps] == ["qtest1-web"]
    os.close(copy)
    assert find_owned(lab.owner).taps == ()
    lab.remove()


def test_tap_is_gone_after_kill_9(lab):
    """The kernel removes the tap of a process that was killed."""
    lab.ensure(lab.make_plan())

    def hold(report):
        with open_tap(make_tap(lab)):
            report("open")

    assert lab.kill_at("open", hold)
    assert find_owned(lab.owner).taps == ()
    lab.remove()


def refuse(lab, plan, message, hint):
    """Assert that a tap is refused with one clear error, nothing left."""
    before = lab.look()
    with pytest.raises(NetError, match=message) as caught, open_tap(plan):
        pass
    assert hint in caught.value.hint
    assert lab.look() == before


def test_busy_name_is_refused(lab, tools):
    """A tap that somebody holds, or made persistent, is not shared and not touched."""
    lab.ensure(lab.make_plan())
    with open_tap(make_tap(lab)):
        refuse(lab, make_tap(lab), "cannot make tap qtest1-web: Device or resource busy", "fdinfo")
    tools.run("ip", "tuntap", "add", "qtest1-web", "mode", "tap")
    refuse(lab, make_tap(lab), "busy", "fdinfo")
    tools.run("ip", "link", "del", "qtest1-web")
    lab.remove()


def test_missing_bridge_is_refused(lab):
    """Without its bridge a tap is not left hanging around."""
    refuse(lab, make_tap(lab, bridge="nowhere"), "there is no bridge nowhere", "network up first")


def test_missing_device_is_refused(lab, monkeypatch):
    """Without /dev/net/tun the hint says how to get it."""
    monkeypatch.setattr(tap, "_DEVICE", Path("/dev/net/none"))
    refuse(lab, make_tap(lab), "cannot open /dev/net/none", "modprobe tun")


def test_tap_without_privilege_is_refused(lab):
    """An ordinary user is told what is missing."""
    lab.ensure(lab.make_plan())
    child = os.fork()
    if not child:
        os.setuid(65534)
        try:
            with open_tap(make_tap(lab)):
                os._exit(1)
        except NetError as error:
            os._exit(0 if error.hint and error.hint.startswith("run as root") else 2)
    assert os.waitpid(child, 0)[1] == 0
    lab.remove()


def test_many_taps_at_once(lab):
    """Forty taps on one bridge, and all of them gone together."""
    lab.ensure(lab.make_plan())
    with ExitStack() as taps:
        for number in range(40):
            label = f"vm/m{number}/nic0"
            taps.enter_context(open_tap(make_tap(lab, name=f"qtest1-{number}", label=label)))
        assert len(find_owned(lab.owner).taps) == 40
        lab.ensure(lab.make_plan())
    assert find_owned(lab.owner).taps == ()
    lab.remove()
