"""libvirt's domain XML to vm.toml: pure, and nothing is dropped without a word."""

from __future__ import annotations

from qorch.importxml.domain import Imported, read_domain
from qorch.importxml.node import ImportNote, parse
from qorch.importxml.render import render

__all__ = ["ImportNote", "Imported", "import_xml", "render"]


def import_xml(data: bytes | str) -> Imported:
    """Read a domain's XML.

    Raises InputError for what is no domain, or none for QEMU on a PC.
    """
    return read_domain(parse(data))
