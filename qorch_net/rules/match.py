"""What a rule looks at, in nft's words: a field, and the value it must have or must not."""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import attrs


class Field(enum.Enum):
    """A field of a packet, or of what the kernel knows about it; the value is nft's name for it."""

    IIFNAME = "iifname"
    OIFNAME = "oifname"
    NFPROTO = "meta nfproto"
    ETHERTYPE = "meta protocol"
    L4PROTO = "meta l4proto"
    CT_STATE = "ct state"
    CT_STATUS = "ct status"
    DADDR_TYPE = "fib daddr type"
    IP_SADDR = "ip saddr"
    IP_DADDR = "ip daddr"
    IP6_SADDR = "ip6 saddr"
    IP6_DADDR = "ip6 daddr"
    SPORT = "th sport"
    DPORT = "th dport"
    ICMPV6_TYPE = "icmpv6 type"
    ND_TARGET = "icmpv6 taddr"
    ETHER_SADDR = "ether saddr"
    ARP_SENDER_MAC = "arp saddr ether"
    ARP_SENDER_IP = "arp saddr ip"


class Number(enum.Enum):
    """A number that the kernel has a name for."""

    value: int

    def __str__(self) -> str:
        return self.name.lower()


class Protocol(Number):
    """The network layer: NFPROTO_* of linux/netfilter.h."""

    IPV4 = 2
    IPV6 = 10


class EtherType(Number):
    """What is in a frame: ETH_P_* of linux/if_ether.h."""

    IP = 0x0800
    ARP = 0x0806
    RARP = 0x8035
    IP6 = 0x86DD


class Transport(Number):
    """The transport layer: IPPROTO_* of linux/in.h."""

    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


class Icmpv6(Number):
    """Messages of ICMPv6 (RFC 4861, RFC 3810)."""

    ROUTER_SOLICITATION = 133
    ROUTER_ADVERTISEMENT = 134
    NEIGHBOUR_SOLICITATION = 135
    NEIGHBOUR_ADVERTISEMENT = 136
    REDIRECT = 137
    MLD2_REPORT = 143


class State(enum.Enum):
    """What connection tracking says of a packet."""

    ANSWER = "established,related"
    DNAT = "dnat"

    def __str__(self) -> str:
        return self.value


class AddressType(enum.Enum):
    """What the routing tables say of an address."""

    LOCAL = "local"

    def __str__(self) -> str:
        return self.value


Address = IPv4Network | IPv6Network | IPv4Address | IPv6Address
Value = str | int | Number | State | AddressType | Address


@attrs.frozen
class Match:
    """`field` must have the value; with `negated`, must not."""

    field: Field
    value: Value
    negated: bool = False

    def __str__(self) -> str:
        value = f'"{self.value}"' if self.field in {Field.IIFNAME, Field.OIFNAME} else self.value
        return f"{self.field.value} {'!= ' if self.negated else ''}{value}"

    def __invert__(self) -> Match:
        return attrs.evolve(self, negated=not self.negated)


ANSWER = Match(Field.CT_STATE, State.ANSWER)
FORWARDED = Match(Field.CT_STATUS, State.DNAT)
TO_THE_HOST = Match(Field.DADDR_TYPE, AddressType.LOCAL)


def iif(name: str) -> Match:
    """It came in by this interface."""
    return Match(Field.IIFNAME, name)


def oif(name: str) -> Match:
    """It goes out by this interface."""
    return Match(Field.OIFNAME, name)


def proto(of: IPv4Network | IPv6Network | IPv4Address | IPv6Address) -> Match:
    """It is of the address' family."""
    return Match(Field.NFPROTO, Protocol.IPV4 if of.version == 4 else Protocol.IPV6)


def saddr(network: Address) -> Match:
    """It comes from this address or network."""
    return Match(Field.IP_SADDR if network.version == 4 else Field.IP6_SADDR, network)


def daddr(network: Address) -> Match:
    """It goes to this address or network."""
    return Match(Field.IP_DADDR if network.version == 4 else Field.IP6_DADDR, network)


def transport(protocol: Transport) -> Match:
    """It is TCP, UDP or the like."""
    return Match(Field.L4PROTO, protocol)


def dport(port: int) -> Match:
    """It goes to this port; the transport must have been matched."""
    return Match(Field.DPORT, port)


def sport(port: int) -> Match:
    """It comes from this port; the transport must have been matched."""
    return Match(Field.SPORT, port)


def ethertype(kind: EtherType) -> Match:
    """What is in the frame."""
    return Match(Field.ETHERTYPE, kind)


def icmpv6(kind: Icmpv6) -> tuple[Match, Match]:
    """It is this ICMPv6 message."""
    return transport(Transport.ICMPV6), Match(Field.ICMPV6_TYPE, kind)
