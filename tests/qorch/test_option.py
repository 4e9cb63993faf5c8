import enum
import json
from ipaddress import IPv4Address
from pathlib import Path

import attrs
from hypothesis import given
from hypothesis import strategies as st

from qorch.option import json_word, key_values, plain, properties
from qorch.units import Size


def split(word):
    """Cut a word into parts as QEMU does: at single commas."""
    return [part.replace("\0", ",") for part in word.replace(",,", "\0").split(",")]


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1))
def test_qemu_gets_back_every_value(values):
    """However many commas a value has, QEMU cuts the word where we joined it."""
    pairs = {f"k{index}": value for index, value in enumerate(values)}
    assert split(key_values("head", **pairs)) == [
        "head",
        *(f"{key}={value}" for key, value in pairs.items()),
    ]


def test_booleans_are_on_and_off_and_none_is_left_out():
    """QEMU's classic form knows on and off, and its names have hyphens."""
    assert key_values("x", a=True, b=False, c=None, d_e=1) == "x,a=on,b=off,d-e=1"


class _Colour(enum.Enum):
    RED = "red"


@attrs.frozen(kw_only=True)
class _Switch:
    node_name: str
    some: int | None = None
    other: str = attrs.field(default="x", metadata={"qemu": "x-other"})


def test_fields_have_qemus_names():
    """`_` becomes `-`, None is left out, metadata wins."""
    assert properties(_Switch(node_name="a")) == {"node-name": "a", "x-other": "x"}


def test_every_kind_of_value_has_a_json_form():
    """Paths, enums, addresses, sizes and what is nested in them become plain JSON."""
    value = {
        "path": Path("/a,b"),
        "colour": _Colour.RED,
        "ip": IPv4Address("10.0.0.1"),
        "size": Size(512),
        "list": (True, None, [1.5]),
    }
    assert json.loads(json_word(value)) == {
        "path": "/a,b",
        "colour": "red",
        "ip": "10.0.0.1",
        "size": 512,
        "list": [True, None, [1.5]],
    }
    assert type(plain(Size(512))) is int
