"""Rate limits as tc knows them, in bytes: a token bucket, and the way of what comes in to another.

What leaves the host through an interface waits in its own queue. What comes in has none: it is led
through an ifb, a pseudo interface that exists to have one. (Dropping what is too much, as policing
does, makes TCP stumble; and not every kernel has it.)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qorch_net.plan import Rate

_ETHERNET: Final = 1  # TC_LINKLAYER_ETHERNET: no rate table needed
_MAX_U32: Final = (1 << 32) - 1
_FRAME: Final = 64 << 10  # the longest frame of segmentation offload
_TICK: Final = 250  # a burst must last from one timer tick to the next
_QUEUE: Final = 20  # 1/20 s of waiting frames
# linux/pkt_sched.h, TCA_TBF_*
_TBF_PARMS, _TBF_RATE64, _TBF_PRATE64, _TBF_BURST, _TBF_PBURST = 1, 4, 5, 6, 7
# linux/pkt_cls.h, linux/tc_act/tc_mirred.h
_U32_SEL, _U32_ACT, _U32_TERMINAL = 5, 7, 1
_ACT_KIND, _ACT_OPTIONS, _MIRRED_PARMS = 1, 2, 2
_STOLEN, _EGRESS_REDIRECT = 4, 1


def make_token_bucket(rate: Rate) -> bytes:
    """The options of a `tbf` queue."""
    burst = min(rate.burst or max(_FRAME, rate.rate // _TICK), _MAX_U32)
    limit = min(burst + rate.rate // _QUEUE, _MAX_U32)
    peak = rate.peak or 0
    peak_burst = min(max(_FRAME, peak // _TICK), _MAX_U32)
    parms = _ratespec(rate.rate) + _ratespec(peak) + struct.pack("=III", limit, 0, 0)
    options = _attribute(_TBF_PARMS, parms)
    options += _attribute(_TBF_RATE64, struct.pack("=Q", rate.rate))
    options += _attribute(_TBF_BURST, struct.pack("=I", burst))
    if peak:
        options += _attribute(_TBF_PRATE64, struct.pack("=Q", peak))
        options += _attribute(_TBF_PBURST, struct.pack("=I", peak_burst))
    return options


def make_redirect(index: int) -> bytes:
    """The options of a `u32` filter that leads every frame out through an interface."""
    key = struct.pack("=IIii", 0, 0, 0, 0)  # anything, looked for anywhere
    selector = struct.pack("=BBBxHHhhI", _U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + key
    mirred = struct.pack("=IIiiiiI", 0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, index)
    action = _attribute(_ACT_KIND, b"mirred\0")
    action += _attribute(_ACT_OPTIONS, _attribute(_MIRRED_PARMS, mirred))
    return _attribute(_U32_SEL, selector) + _attribute(_U32_ACT, _attribute(1, action))


def _ratespec(rate: int) -> bytes:
    """Struct tc_ratespec; rates that 32 bits do not hold are in attributes of their own."""
    return struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(rate, _MAX_U32))


def _attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded to four bytes."""
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)
