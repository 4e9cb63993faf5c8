"""The JSON schema of vm.toml agrees with what is loaded and what is not."""

import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from qorch.schema import make_schema

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    *sorted((ROOT / "examples").glob("*.toml")),
    *sorted((ROOT / "tests/goldens").glob("*.toml")),
    *sorted((ROOT / "tests/qorch/importxml/samples").glob("*.toml")),
]


@pytest.fixture(scope="module")
def validator():
    """Checks documents by the schema."""
    return Draft202012Validator(make_schema())


def test_it_is_a_schema():
    """It is itself valid by the standard's own schema."""
    Draft202012Validator.check_schema(make_schema())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_valid(validator, path):
    """Every example, golden and imported document is valid."""
    assert [error.message for error in validator.iter_errors(tomllib.loads(path.read_text()))] == []


@pytest.mark.parametrize(
    "text",
    [
        "[vms.a]",
        "[vm.Not_A_Name]",
        "[vm.a]\ncpus = true",
        '[vm.a]\ncpus = "2"',
        '[vm.a]\nmemory = "1 GIB"',
        '[vm.a]\naccel = "xen"',
        "[[vm.a.disk]]\ncolour = 3",
        "[[vm.a.credential]]",
        "[vm.a]\nrng = 3",
        '[[vm.a.nic]]\nmac = "52:54:00"',
        '[vm.a.memory]\nsize = "1GiB"\nlocked = "yes"',
    ],
)
def test_mistakes_are_found(validator, text):
    """Unknown keys, wrong types and what is missing are not valid."""
    assert not validator.is_valid(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        '[vm.a]\nmemory = "1GiB"\nrng = false\ntpm = "2.0"\nfirmware = "uefi"',
        '[vm.a.cpu]\npin = [0, "1-2,4"]\n[vm.a.memory]\nsize = "1GiB"\nballoon = false',
        '[[vm.a.serial]]\nbackend = "pty"\n[[vm.a.serial]]\nbackend = { type = "tcp", port = 1 }',
        '[vm.a.cpu.properties]\nhv-relaxed = true\nhv-spinlocks = "0x1fff"\ntsc-frequency = 1',
    ],
)
def test_short_forms_are_valid(validator, text):
    """What is short for a table is as good as the table."""
    assert validator.is_valid(tomllib.loads(text))


def test_tables_are_described():
    """Each table says what it is, in the words of its class."""
    schema = make_schema()
    assert schema["$defs"]["DiskSpec"]["description"].startswith("[[vm.NAME.disk]]: an image")
    assert all(table["description"] for table in schema["$defs"].values())
