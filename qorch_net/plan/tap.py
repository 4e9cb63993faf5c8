"""One network card's end on the host: a tap in a bridge, or a macvtap on an uplink."""

from __future__ import annotations

import enum

import attrs

from qorch_net.errors import NetError
from qorch_net.plan.names import (
    IpAddress,
    Mark,
    check_interface_name,
    check_mac,
    check_mtu,
    check_owner,
    check_vlan,
    check_vlans,
    make_interface_name,
)

_MAX_QUEUES = 256  # MAX_TAP_QUEUES: drivers/net/tun.c


class MacvtapMode(enum.Enum):
    """How the macvtaps of one uplink reach each other (linux/if_link.h, MACVLAN_MODE_*)."""

    BRIDGE = "bridge"
    VEPA = "vepa"
    PRIVATE = "private"
    PASSTHRU = "passthru"


@attrs.frozen(kw_only=True)
class Rate:
    """A limit: bytes per second, and how many may come at once; None: chosen by the rate.

    `peak`: how fast, in bytes per second, those may come.
    """

    rate: int
    burst: int | None = None
    peak: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.rate < 1 or (self.burst is not None and self.burst < 1):
            raise NetError("a rate limit must be more than nothing", "a byte per second at least")
        if self.peak is not None and self.peak <= self.rate:
            raise NetError(
                f"a peak rate of {self.peak} bytes/s is not above the rate of {self.rate}",
                "leave it out, or make it larger",
            )


@attrs.frozen(kw_only=True)
class Guard:
    """Anti-spoofing: the addresses that a tap's guest may send from. Everything else is dropped."""

    tap: str = attrs.field(validator=check_interface_name)
    mac: str = attrs.field(validator=check_mac)
    ips: tuple[IpAddress, ...] = ()


@attrs.frozen(kw_only=True)
class TapPlan:
    """One tap: `label` says whose it is (`vm/web/nic0`), `bridge` where it is plugged in.

    Without a bridge nobody plugs it in. With `macvtap` it is a macvtap on `uplink`. A `persistent`
    one is somebody else's tap of that name: opened and left as it is.

    `mac` and `ips` are the guest's; with `antispoof` it may send from nothing else. On a VLAN-aware
    bridge `vlan` makes an access port; `trunk` is tagged towards the guest, but for `native`.
    `rate_in` limits what the guest receives, `rate_out` what it sends. `isolated` ports reach each
    other not. `mtu` None is that of the bridge. `up` False: the cable is unplugged.
    """

    name: str = attrs.field(validator=check_interface_name)
    owner: str = attrs.field(validator=check_owner)
    label: str
    bridge: str | None = attrs.field(default=None, validator=check_interface_name)
    uplink: str | None = attrs.field(default=None, validator=check_interface_name)
    macvtap: MacvtapMode | None = None
    persistent: bool = False
    mac: str | None = attrs.field(default=None, validator=check_mac)
    ips: tuple[IpAddress, ...] = ()
    antispoof: bool = False
    mtu: int | None = attrs.field(default=None, validator=check_mtu)
    queues: int = 1
    vhost: bool = False
    vlan: int | None = attrs.field(default=None, validator=check_vlan)
    trunk: tuple[int, ...] = attrs.field(default=(), validator=check_vlans)
    native: int | None = attrs.field(default=None, validator=check_vlan)
    rate_in: Rate | None = None
    rate_out: Rate | None = None
    learning: bool = True
    flood: bool = True
    isolated: bool = False
    up: bool = True

    @property
    def mark(self) -> Mark:
        """What the interface's alias says."""
        return Mark(self.owner, self.label)

    @property
    def ifb(self) -> str:
        """The interface with the queue for what comes in, where that is limited."""
        return make_interface_name(self.owner, f"{self.label}/ifb", "ifb")

    @property
    def rate_out_of_it(self) -> Rate | None:
        """The limit of what leaves the host through it: for a macvtap what the guest sends."""
        return self.rate_out if self.macvtap else self.rate_in

    @property
    def rate_into_it(self) -> Rate | None:
        """The limit of what comes into the host through it."""
        return self.rate_in if self.macvtap else self.rate_out

    @property
    def lasts(self) -> bool:
        """Whether something of it stays when the last descriptor is closed."""
        return self.macvtap is not None or self.rate_into_it is not None

    @property
    def guard(self) -> Guard | None:
        """What keeps its guest from speaking as somebody else, if that is wanted."""
        if not self.antispoof or self.mac is None:
            return None
        return Guard(tap=self.name, mac=self.mac, ips=self.ips)

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.queues <= _MAX_QUEUES:
            raise NetError(
                f"tap {self.name} cannot have {self.queues} queues", f"1 to {_MAX_QUEUES} can be"
            )
        if self.macvtap and (self.uplink is None or self.bridge is not None):
            raise NetError(f"macvtap {self.name} needs an uplink and no bridge")
        if self.antispoof and self.mac is None:
            raise NetError(f"tap {self.name} cannot be guarded without a MAC address")
        self._check_vlans()

    def _check_vlans(self) -> None:
        if self.vlan is not None and (self.trunk or self.native is not None):
            raise NetError(
                f"tap {self.name} cannot be an access port and a trunk",
                "give vlan, or trunk and perhaps native",
            )
        if self.native is not None and not self.trunk:
            raise NetError(f"tap {self.name} has a native VLAN but no trunk", "give vlan instead")
