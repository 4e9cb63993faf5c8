"""XML that remembers what was looked at, and refuses what could harm."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qorch.errors import InputError
from qorch.importxml import import_xml, render
from qorch.importxml.node import parse

BOMB = """<!DOCTYPE domain [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<domain type="kvm"><name>&b;</name></domain>"""
FILE = """<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<domain type="kvm"><name>&x;</name></domain>"""


@pytest.mark.parametrize("text", [BOMB, FILE, '<!DOCTYPE domain SYSTEM "x.dtd"><domain/>'])
def test_document_types_and_entities_are_refused(text):
    """No entity is ever expanded, no file read, for a document that asks for it."""
    with pytest.raises(InputError, match="document type"):
        import_xml(text)


@pytest.mark.parametrize(
    "text", ["", "no XML", "<domain>", "<domain></domain", "<network/>", "<a>" * 500, b"\xff\xfe"]
)
def test_what_is_no_domain_is_refused(text):
    """What is no XML, or not of a domain, is wrong input and says so."""
    with pytest.raises(InputError):
        import_xml(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<domain type="xen"/>', "not QEMU"),
        ('<domain type="kvm"><os><type arch="aarch64">hvm</type></os></domain>', "aarch64"),
        ('<domain type="kvm"><os><type>linux</type></os></domain>', "'linux' guests"),
        ('<domain type="kvm"><os><type machine="virt">hvm</type></os></domain>', "machine type"),
    ],
)
def test_machines_that_are_no_pcs_are_refused(text, message):
    """A domain of another hypervisor or architecture is refused, not half imported."""
    with pytest.raises(InputError, match=message):
        import_xml(text)


def test_what_nobody_read_is_named():
    """Elements, attributes and texts that are not understood are told by their paths."""
    imported = import_xml("""<domain type="kvm" colour="red"><name>a</name>
      <memory>1024</memory><wheel/>
      <features>words<acpi strange="yes"/></features>
      <devices><disk type="file"><source file="/a"/><target dev="vda" gear="3"/></disk></devices>
      </domain>""")
    assert {note.path for note in imported.notes} == {
        *("domain@colour", "wheel", "features", "features/acpi@strange"),
        "devices/disk[0]/target@gear",
    }


def test_whatever_is_said_of_it_is_in_the_document_too():
    """The comments of a document name all that its import named."""
    imported = import_xml(
        '<domain type="kvm"><name>A B</name><memory>1024</memory><wheel>\n</wheel></domain>'
    )
    text = render(imported)
    assert all(f"# - {note}" in text for note in imported.notes)
    assert len(imported.notes) == 2


TAGS = st.sampled_from(
    [
        "name",
        "uuid",
        "memory",
        "vcpu",
        "os",
        "type",
        "loader",
        "boot",
        "features",
        "acpi",
        "cpu",
        "model",
        "numa",
        "cell",
        "devices",
        "disk",
        "source",
        "target",
        "driver",
        "address",
        "controller",
        "interface",
        "mac",
        "serial",
        "console",
        "channel",
        "graphics",
        "video",
        "sound",
        "input",
        "hostdev",
        "rng",
        "backend",
        "watchdog",
        "tpm",
        "memballoon",
        "filesystem",
        "memory",
        "clock",
        "timer",
    ]
)
KEYS = st.sampled_from(
    [
        "type",
        "device",
        "dev",
        "bus",
        "file",
        "mode",
        "name",
        "model",
        "id",
        "unit",
        "slot",
        "function",
        "controller",
        "port",
        "index",
        "address",
        "cpus",
        "memory",
        "size",
        "queues",
        "machine",
        "arch",
        "offset",
        "placement",
        "current",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "kvm",
            "pci",
            "drive",
            "file",
            "block",
            "virtio",
            "scsi",
            "hda",
            "vda",
            "0",
            "-1",
            "0x1f",
            "yes",
            "hvm",
            "q35",
            "pc",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters='<>&"', exclude_categories=["C"])),
)


def element(tag, attributes, inside):
    """The text of an element."""
    words = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f"<{tag}{words}>{inside}</{tag}>"


ELEMENTS = st.recursive(
    st.builds(element, TAGS, st.dictionaries(KEYS, VALUES, max_size=4), VALUES),
    lambda inner: st.builds(
        element,
        TAGS,
        st.dictionaries(KEYS, VALUES, max_size=4),
        st.lists(inner, max_size=4).map("".join),
    ),
    max_leaves=12,
)


@settings(max_examples=30)
@given(st.lists(ELEMENTS, max_size=4), st.lists(ELEMENTS, max_size=5))
def test_no_document_is_a_crash(around, devices):
    """Any well-formed domain becomes a document, or is refused as wrong input."""
    inside = "".join(around) + f"<devices>{''.join(devices)}</devices>"
    try:
        imported = import_xml(
            f'<domain type="kvm"><name>a</name><memory>4096</memory>{inside}</domain>'
        )
    except InputError:
        return
    render(imported)


@given(st.text())
def test_no_text_is_a_crash(text):
    """Any text is parsed, or refused as wrong input."""
    with contextlib.suppress(InputError):
        parse(text)
