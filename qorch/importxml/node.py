"""XML that remembers what was looked at.

Whoever reads a domain asks a `Node` for attributes, texts and children. What nobody has asked for
by the end was not understood, and `find_unread` names it by its path: nothing is dropped silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn
from xml.parsers import expat

import attrs

from qorch.errors import InputError, Problem

_DEEPEST = 100  # levels; a domain has about ten


@attrs.frozen
class ImportNote:
    """Something about the XML that a person should know, and where it is."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@attrs.define(eq=False)
class Node:
    """An element: its attributes, text and children, and which of them were read.

    An element that is not there is a Node, too, which is false and has nothing in it.
    """

    tag: str
    path: str
    notes: list[ImportNote] = attrs.field(repr=False)
    attributes: dict[str, str] = attrs.field(factory=dict)
    nodes: list[Node] = attrs.field(factory=list, repr=False)
    content: str = ""
    there: bool = True
    seen: bool = False
    read: set[str] = attrs.field(factory=set, repr=False)

    def __bool__(self) -> bool:
        return self.there

    def get(self, name: str, default: str | None = None) -> str | None:
        """An attribute."""
        self.read.add(name)
        return self.attributes.get(name, default)

    def word(self, name: str) -> str:
        """An attribute, empty if it is not there."""
        return self.get(name) or ""

    def on(self, name: str) -> bool | None:
        """An attribute that is `on` or `off`, `yes` or `no`."""
        value = self.get(name)
        return None if value is None else value in ("on", "yes", "1")

    def switch(self) -> bool | None:
        """Whether a feature is on, which it is if it is there and says nothing else."""
        return self.get("state", "on") != "off" if self.there else None

    def number(self, name: str) -> int | None:
        """An attribute that is a number, also a hexadecimal one; None if it is not there."""
        return self.to_number(self.get(name), f"@{name}")

    def text(self) -> str:
        """What stands between the tags, without the spaces around it."""
        self.read.add("#text")
        return self.content.strip()

    def text_number(self) -> int | None:
        """The text as a number; None if there is none."""
        return self.to_number(self.text() or None, "")

    def to_number(self, text: str | None, where: str) -> int | None:
        """Read a number of this element; a note says if it is none."""
        if text is None:
            return None
        try:
            return int(text, 16 if text.lower().startswith("0x") else 10)
        except ValueError:
            self.note(f"{text!r} is not a number", where)
            return None

    def find(self, *tags: str) -> Node:
        """The first child of that name, and on to its first child: false if there is none."""
        node = self
        for tag in tags:
            node = next(iter(node.all(tag)), _nothing(node, tag))
        return node

    def all(self, tag: str) -> list[Node]:
        """The children of that name."""
        found = [node for node in self.nodes if node.tag == tag]
        for node in found:
            node.seen = True
        return found

    def text_of(self, tag: str) -> str | None:
        """The text of a child; None if there is no such child, or nothing in it."""
        return self.find(tag).text() or None

    def skip(self) -> None:
        """This element and all in it mean nothing to a machine of qorch's, or go without saying."""
        self.seen = True
        self.read |= {"#text", *self.attributes}
        for node in self.nodes:
            node.skip()

    def skip_all(self, *tags: str) -> None:
        """Skip children of these names."""
        for tag in tags:
            for node in self.all(tag):
                node.skip()

    def note(self, message: str, where: str = "") -> None:
        """Say something about this element."""
        self.notes.append(ImportNote(self.path + where, message))

    def leave(self, message: str = "is not carried over") -> None:
        """Say of an element, if it is there, that it is left out, with all that is in it."""
        if self.there:
            self.note(message)
            self.skip()

    def leave_all(self, *tags: str, why: str = "is not carried over") -> None:
        """Leave children of these names."""
        for tag in tags:
            for node in self.all(tag):
                node.leave(why)

    def find_unread(self) -> Iterator[ImportNote]:
        """What nobody has looked at, outermost first."""
        if not self.seen:
            yield ImportNote(self.path, "is not carried over")
            return
        for name in self.attributes.keys() - self.read:
            yield ImportNote(f"{self.path}@{name}", "is not carried over")
        if self.content.strip() and "#text" not in self.read:
            yield ImportNote(self.path, f"its text {self.content.strip()!r} is not carried over")
        for node in self.nodes:
            yield from node.find_unread()


def _nothing(parent: Node, tag: str) -> Node:
    return Node(tag, f"{parent.path}/{tag}", parent.notes, there=False, seen=True)


def parse(data: bytes | str) -> Node:
    """Read a document into Nodes. Raises InputError; DTDs and entities are refused unread."""
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise _refuse(f"not XML: {error}") from None
    except UnicodeEncodeError as error:
        raise _refuse(f"not XML: {error}") from None
    if reader.root is None:
        raise _refuse("has no element")
    return reader.root


def _refuse(message: str) -> InputError:
    hint = "give what `virsh dumpxml --inactive NAME` prints"
    return InputError.from_problems([Problem("domain XML", message, hint)])


def _short(space: str) -> str:
    """A name space by its last word: `qemu` of http://libvirt.org/schemas/domain/qemu/1.0."""
    words = [word for word in re.split(r"[/#:]", space) if re.search(r"[A-Za-z]", word)]
    return words[-1] if words else space


class _Reader:
    """Makes Nodes of what expat sees."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartDoctypeDeclHandler = self._refuse_dtd
        self.parser.EntityDeclHandler = self._refuse_dtd
        self.parser.ExternalEntityRefHandler = self._refuse_dtd
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.root: Node | None = None
        self._stack: list[Node] = []
        self._notes: list[ImportNote] = []

    def _refuse_dtd(self, *_: object) -> NoReturn:
        raise _refuse("has a document type or entities, which a domain never has")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._stack) >= _DEEPEST:
            raise _refuse(f"is nested more than {_DEEPEST} levels deep")
        parent = self._stack[-1] if self._stack else None
        node = Node(tag, self._make_path(parent, tag), self._notes, attributes)
        if parent is None:
            self.root = node
            node.seen = True
        else:
            parent.nodes.append(node)
        self._stack.append(node)

    @staticmethod
    def _make_path(parent: Node | None, tag: str) -> str:
        """`devices/disk[1]/source`; a name space is written as its last word, as in `qemu:arg`."""
        space, _, name = tag.rpartition(" ")
        short = f"{_short(space)}:{name}" if space else name
        if parent is None:
            return short
        path = f"{parent.path}/{short}" if "/" in parent.path or parent.tag != "domain" else short
        count = sum(1 for node in parent.nodes if node.tag == tag)
        return f"{path}[{count}]" if parent.tag == "devices" else path

    def _end(self, _tag: str) -> None:
        self._stack.pop()

    def _text(self, text: str) -> None:
        if self._stack:
            self._stack[-1].content += text
