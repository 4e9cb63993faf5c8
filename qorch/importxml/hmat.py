"""`<cell><cache>` and `<interconnects>`: how near memory is, as ACPI's HMAT tells the guest.

QEMU's words of it have no keys in a vm.toml, but for the cell that is nearest to another's memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from qorch.importxml.node import Node
from qorch.importxml.values import size_at

_LEVELS = ("memory", "first-level", "second-level", "third-level")
_ASSOCIATIVITIES = {"none": "none", "direct": "direct", "full": "complex"}
_POLICIES = {"none": "none", "writeback": "write-back", "writethrough": "write-through"}


def has_hmat(domain: Node) -> bool:
    """Whether the guest is told at all."""
    numa = domain.find("cpu", "numa")
    return bool(numa.find("interconnects")) or any(cell.find("cache") for cell in numa.all("cell"))


def find_initiator(domain: Node, number: int, *, has_cpus: bool) -> int | None:
    """The cell that is nearest to one's memory: itself, or the one with the lowest latency."""
    if not has_hmat(domain):
        return None
    if has_cpus:
        return number
    links = domain.find("cpu", "numa", "interconnects")
    found = [
        (tag != "latency", sign * value, node.number("initiator"))
        for tag, sign in (("latency", 1), ("bandwidth", -1))
        for node in links.all(tag)
        if node.number("target") == number and (value := node.number("value")) is not None
    ]
    return min(found)[2] if found else None


def read_hmat(domain: Node) -> list[str]:
    """QEMU's `-numa hmat-lb` and `hmat-cache`."""
    numa = domain.find("cpu", "numa")
    words = [*_links(numa.find("interconnects"))]
    for place, cell in enumerate(numa.all("cell")):
        number = cell.number("id")
        words += [_cache(node, place if number is None else number) for node in cell.all("cache")]
    return [part for word in words for part in ("-numa", word)]


def _links(links: Node) -> Iterator[str]:
    for tag in ("latency", "bandwidth"):
        for node in links.all(tag):
            level = min(node.number("cache") or 0, len(_LEVELS) - 1)
            value = node.number("value")
            if tag == "bandwidth":
                value_word = f"{(size_at(node, 'value') or 0) >> 10}K"
            else:
                value_word = str(value or 0)
            yield (
                f"hmat-lb,initiator={node.number('initiator') or 0},"
                f"target={node.number('target') or 0},hierarchy={_LEVELS[level]},"
                f"data-type={node.get('type') or 'access'}-{tag},{tag}={value_word}"
            )


def _cache(node: Node, number: int) -> str:
    size = (size_at(node.find("size"), "value") or 0) >> 10
    line = size_at(node.find("line"), "value", unit="b") or 0
    return (
        f"hmat-cache,node-id={number},size={size}K,level={node.number('level') or 1},"
        f"associativity={_ASSOCIATIVITIES.get(node.word('associativity'), 'none')},"
        f"policy={_POLICIES.get(node.word('policy'), 'none')},line={int(line)}"
    )
