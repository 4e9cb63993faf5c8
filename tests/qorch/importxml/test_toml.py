"""Documents that are pleasant to read, and say what was meant."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from qorch.importxml.toml import write_comment, write_document

TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXT)
TABLES = st.recursive(
    st.dictionaries(TEXT, SCALARS, max_size=4),
    lambda inner: st.dictionaries(
        TEXT,
        st.one_of(SCALARS, inner, st.lists(inner, max_size=3), st.lists(SCALARS, max_size=3)),
        max_size=4,
    ),
    max_leaves=20,
)


@given(TABLES)
def test_what_is_written_is_read_again(tables):
    """Any tables, with any keys and texts, are the same after writing and reading."""
    assert tomllib.loads(write_document(tables)) == tables


@given(TEXT)
def test_comments_stay_comments(text):
    """No text breaks out of its comment."""
    assert tomllib.loads("\n".join(write_comment(text))) == {}


def test_small_tables_stand_in_a_line():
    """Headers for a machine and its big parts, lines for the small ones."""
    disk = {"path": "/a", "address": {"bus": "pci.0", "slot": 1}}
    machine = {"cpus": 2, "clock": {"base": "utc"}, "disk": [disk]}
    assert write_document({"vm": {"web": machine}}) == (
        '[vm.web]\ncpus = 2\nclock = { base = "utc" }\n\n'
        '[[vm.web.disk]]\npath = "/a"\naddress = { bus = "pci.0", slot = 1 }\n'
    )
