"""What belongs to nothing, among files."""

import pytest

from qorch.leftovers import _find_files, _is_owned
from qorch.paths import StateDir
from qorch.state import PoolDefinition, Store
from qorch_storage.plan import PoolPlan


def test_a_pool_that_cannot_be_looked_at_hides_no_other(tmp_path):
    """Its directory is a file now, say; what is stale in the others is found."""
    state = StateDir.from_directory(tmp_path / "state")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "good").mkdir()
    stale = tmp_path / "good" / ".qorch-tmp-dead"
    stale.write_bytes(b"")
    for name in ("file", "good", "none"):
        plan = PoolPlan(name=name, path=tmp_path / name, owner=state.owner)
        Store(state).write_pool(PoolDefinition(version=1, plan=plan))
    assert [leftover.name for leftover in _find_files(state, set(), set(), set())] == [str(stale)]


@pytest.mark.parametrize(
    ("label", "owned"),
    [
        ("vm/web", True),
        ("vm/web/nic0", True),
        ("helper/web/tpm", True),
        ("network/lan", True),
        ("vm/lan", False),
        ("helper/lan/tpm", False),
        ("network/web", False),
        ("", False),
    ],
)
def test_whose_a_mark_is(label, owned):
    """A machine's helpers are its own: nobody takes its TPM away while it runs."""
    assert _is_owned(label, {"web"}, {"lan"}) is owned
