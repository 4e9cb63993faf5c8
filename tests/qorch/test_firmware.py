import json
from pathlib import Path

import pytest

from qorch.firmware import choose_firmware, parse_firmwares
from qorch.spec import FirmwareSpec, FirmwareType, MachineType
from qorch_storage.plan import ImageFormat


def describe(code, *features, machines=("pc-q35-*",), template="v.fd", **changes):
    """A descriptor as distributions have them."""
    mapping = {
        "device": "flash",
        "executable": {"filename": code, "format": "raw"},
        "nvram-template": {"filename": template, "format": "raw"},
    }
    if template is None:
        del mapping["nvram-template"]
    targets = [{"architecture": "x86_64", "machines": list(machines)}]
    data = {
        "interface-types": ["uefi"],
        "mapping": mapping,
        "targets": targets,
        "features": list(features),
    }
    return json.dumps({**data, **changes})


FIRMWARES = parse_firmwares(
    [
        {
            "40-keys.json": describe("keys", "secure-boot", "requires-smm", "enrolled-keys"),
            "50-secure.json": describe("secure", "secure-boot", "requires-smm"),
            "60-plain.json": describe("plain", machines=["pc-i440fx-*", "pc-q35-*"]),
            "70-none.json": describe("none", template=None),
        }
    ]
)


@pytest.mark.parametrize(
    ("machine", "spec", "code"),
    [
        ("q35", {}, "plain"),
        ("pc", {}, "plain"),
        ("pc-q35-7.2", {"secure_boot": False}, "plain"),
        ("q35", {"secure_boot": True}, "keys"),
        ("q35", {"secure_boot": True, "enrolled_keys": False}, "secure"),
        ("pc", {"secure_boot": True}, None),
        ("microvm", {}, None),
        ("q35", {"enrolled_keys": True}, None),
        ("q35", {"stateless": True}, "plain"),
    ],
)
def test_the_first_that_fits_is_taken(machine, spec, code):
    """By machine type, Secure Boot and keys; Secure Boot is never a surprise."""
    wanted = FirmwareSpec(type=FirmwareType.UEFI, **spec)
    chosen = choose_firmware(FIRMWARES, MachineType(machine), wanted)
    assert (chosen and str(chosen.code.path)) == code


def test_what_an_administrator_has_goes_first():
    """A file of the same name replaces another, an empty one hides it."""
    shipped = {"50-a.json": describe("a"), "60-b.json": describe("b"), "70-c.json": describe("c")}
    own = {"50-a.json": "", "60-b.json": describe("mine"), "10-first.json": describe("first")}
    found = parse_firmwares([shipped, own])
    assert [str(firmware.code.path) for firmware in found] == ["first", "mine", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        describe("bios", **{"interface-types": ["bios"]}),
        describe("memory", mapping={"device": "memory", "filename": "x"}),
        describe("arm", targets=[{"architecture": "aarch64", "machines": ["virt"]}]),
        describe("strange", mapping={"device": "flash", "executable": {"filename": "x"}}),
    ],
)
def test_what_is_no_flash_for_this_architecture_is_left_out(text):
    """And does not hide the others."""
    found = parse_firmwares([{"a.json": text, "b.json": describe("b")}])
    assert [firmware.name for firmware in found] == ["b.json"]


def test_a_descriptor_says_which_files_and_what_they_can():
    """Code and template with their formats, patterns of machines, features."""
    (keys, *_) = FIRMWARES
    assert (keys.code.path, keys.code.format) == (Path("keys"), ImageFormat.RAW)
    assert (keys.has_secure_boot, keys.has_keys, keys.needs_smm) == (True, True, True)
