"""What belongs to nothing, among files."""

from qorch.leftovers import _find_files
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
