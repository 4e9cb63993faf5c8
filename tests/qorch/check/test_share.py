from pathlib import Path

import pytest

from qorch.errors import InputError
from qorch.load import load_text


@pytest.mark.parametrize(
    ("share", "path", "message"),
    [
        ("type = '9p'", "", "is missing"),
        ("type = '9p', path = 'd', tag = ''", ".tag", "not 1 to 31 bytes"),
        (f"type = '9p', path = 'd', tag = '{32 * 'x'}'", ".tag", "not 1 to 31 bytes"),
        (f"path = 'd', tag = '{37 * 'x'}'", ".tag", "not 1 to 36 bytes"),
        ("tag = 't'", ".path", "is missing"),
        ("type = '9p', tag = 't', socket = 's'", ".path", "is missing"),
        ("path = 'd', tag = 't', socket = 's'", ".socket", "goes without a path"),
        ("path = 'd', tag = 't', fmode = '0644'", ".fmode", "is for 9p shares"),
        ("type = '9p', path = 'd', tag = 't', cache = 'auto'", ".cache", "is for virtiofs shares"),
        ("path = 'd', tag = 't', cache = 'x'", ".cache", "is none of"),
        ("type = '9p', path = 'd', tag = 't', dmode = '9'", ".dmode", "is no mode"),
        ("type = '9p', path = 'd', tag = 't', multidevs = 'x'", ".multidevs", "is none of"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(share, path, message):
    """With the key that is at fault."""
    with pytest.raises(InputError) as caught:
        load_text(f"[vm.a]\nkernel = 'k'\nshare = [{{ {share} }}]", Path("/here"))
    problems = {problem.path: problem.message for problem in caught.value.problems}
    assert message in problems[f"vm.a.share[0]{path}" if path else "vm.a.share[0].tag"]


def test_a_tag_names_one_share():
    """Guests mount by it."""
    text = "[vm.a]\nkernel = 'k'\nshare = [{ path = 'd', tag = 't' }, { path = 'e', tag = 't' }]"
    with pytest.raises(InputError, match=r"share\[1\]\.tag: 't' is the tag of share\[0\] already"):
        load_text(text, Path("/here"))
