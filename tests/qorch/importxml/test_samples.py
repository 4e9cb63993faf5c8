"""Whole domains and the vm.toml that each becomes."""

from pathlib import Path

import pytest

from qorch.importxml import import_xml, render
from qorch.load import load_text

SAMPLES = Path(__file__).parent / "samples"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.xml"))


def text_of(name):
    """The vm.toml of a sample."""
    return render(import_xml((SAMPLES / f"{name}.xml").read_bytes()))


@pytest.mark.parametrize("name", NAMES)
def test_a_domain_becomes_its_document(name):
    """Each sample becomes the vm.toml beside it, letter for letter."""
    assert text_of(name) == (SAMPLES / f"{name}.toml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_read_as_it_was_meant(name):
    """What is written is loaded as the machine that was imported."""
    imported = import_xml((SAMPLES / f"{name}.xml").read_bytes())
    spec = load_text(text_of(name), Path("/"))
    assert spec.vms == {imported.name: imported.machine}
