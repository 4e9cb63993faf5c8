"""Block nodes: how QEMU opens an image. A format is a node over a protocol, which is one, too."""

from __future__ import annotations

import attrs

from qorch.option import NOT_A_PROPERTY, Properties, json_word, properties


@attrs.frozen(kw_only=True)
class CacheMode:
    """What the host does with what was written (qapi BlockdevCacheOptions)."""

    direct: bool = False
    no_flush: bool = False


@attrs.frozen(kw_only=True)
class Blockdev:
    """`-blockdev`: a node, whatever it is; `more` are properties of its driver."""

    node_name: str
    driver: str
    cache: CacheMode | None = attrs.field(default=None, metadata=NOT_A_PROPERTY)
    read_only: bool | None = None
    auto_read_only: bool | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    more: dict[str, object] = attrs.field(factory=dict)

    def properties(self) -> Properties:
        """As `blockdev-add` takes them."""
        found = properties(self)
        if self.cache is not None:
            found["cache"] = properties(self.cache)
        return found

    def args(self) -> tuple[str, ...]:
        return "-blockdev", json_word(self.properties())


@attrs.frozen(kw_only=True)
class BlockdevProtocol(Blockdev):
    """A file, a device or a server: what holds the bytes of an image."""

    aio: str | None = None


@attrs.frozen(kw_only=True)
class BlockdevFormat(Blockdev):
    """An image over the node that has its bytes; `backing` names the node below, if one may be.

    `backing: null` keeps QEMU from following the image's header.
    """

    file: str
    backing: str | None = attrs.field(default=None, metadata=NOT_A_PROPERTY)
    layered: bool = attrs.field(default=False, metadata=NOT_A_PROPERTY)

    def properties(self) -> Properties:
        """As `blockdev-add` takes them."""
        found = super().properties()
        if self.layered:
            found["backing"] = self.backing
        return found


@attrs.frozen(kw_only=True)
class BlockdevFilter(Blockdev):
    """`throttle` or `copy-on-read`, over the node `file`."""

    file: str
    throttle_group: str | None = None
