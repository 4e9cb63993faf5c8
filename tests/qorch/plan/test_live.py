"""What can be changed about a machine while it runs, and what needs a restart."""

import pytest
from fake_host import plan_text

from qorch.plan import find_live_changes

TEXT = """
[vm.web]
kernel = "k"
[[vm.web.disk]]
path = "a.raw"
format = "raw"
{disk}
[[vm.web.disk]]
device = "cdrom"
bus = "scsi"
{drive}
[[vm.web.disk]]
path = "b.raw"
format = "raw"
throttle = {{ group = "slow", iops_total = {iops} }}
"""


def plan(disk="", drive="", iops=5):
    """The machine of such a document."""
    return plan_text(TEXT.format(disk=disk, drive=drive, iops=iops)).machines["web"]


@pytest.mark.parametrize(
    ("new", "found"),
    [
        ({}, []),
        ({"drive": 'path = "c.iso"\nformat = "raw"'}, [("disk1", True, False)]),
        ({"disk": "throttle = { iops_total = 7 }"}, [("disk0", False, True)]),
        ({"disk": "throttle = {}"}, []),
        ({"iops": 9}, [("disk2", False, True)]),
        ({"disk": 'throttle = { group = "slow" }'}, None),  # a group is joined at the start
        ({"disk": 'cache = "none"'}, None),
        ({"drive": 'url = "https://example.org/c.iso"'}, None),
    ],
)
def test_media_and_limits_are_changed_live(new, found):
    """Those and nothing else; what is as good as the same is no change."""
    changes = find_live_changes(plan(), plan(**new))
    shown = changes and [(item.disk.id, item.medium, item.limits) for item in changes]
    assert shown == found
