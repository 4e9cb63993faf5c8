"""Queues and filters of interfaces."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.rtnl import RTM_NEWQDISC, RTM_NEWTFILTER

from qorch_net.shaping import make_redirect, make_token_bucket

if TYPE_CHECKING:
    from qorch_net.plan import Rate

# linux/pkt_sched.h
_ROOT, _INGRESS, _INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_ALL: Final = socket.htons(3)  # ETH_P_ALL
_PRIORITY: Final = 1 << 16


class _RawTc(nlmsg):  # type: ignore[misc]
    """tcmsg without a look into the options."""

    prefix = "TCA_"
    fields = (
        *(("family", "B"), ("pad1", "B"), ("pad2", "H"), ("index", "i")),
        *(("handle", "I"), ("parent", "I"), ("info", "I")),
    )
    nla_map = (("TCA_UNSPEC", "none"), ("TCA_KIND", "asciiz"), ("TCA_OPTIONS", "cdata"))


def make_limit(index: int, rate: Rate) -> Any:
    """Make the message that limits what leaves through an interface."""
    return _make(RTM_NEWQDISC, index, "tbf", make_token_bucket(rate), parent=_ROOT)


def make_diversion(index: int, ifb: int) -> list[Any]:
    """Make the messages that lead what comes in by an interface through an ifb."""
    return [
        _make(RTM_NEWQDISC, index, "ingress", b"", parent=_INGRESS, handle=_INGRESS_HANDLE),
        _make(
            RTM_NEWTFILTER,
            index,
            "u32",
            make_redirect(ifb),
            parent=_INGRESS_HANDLE,
            info=_PRIORITY | _ALL,
        ),
    ]


def _make(kind: int, index: int, name: str, options: bytes, **fields: int) -> Any:
    message = _RawTc()
    message.update(index=index, **fields)
    message["attrs"] = [["TCA_KIND", name], ["TCA_OPTIONS", options]]
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
    flags |= NLM_F_REPLACE if kind == RTM_NEWQDISC else 0
    message["header"].update(type=kind, flags=flags)
    return message
