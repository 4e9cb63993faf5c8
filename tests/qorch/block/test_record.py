"""What is decided about an operation that was cut short, and what the record says of snapshots."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from fake_host import plan_text

from qorch.block.record import (
    DiskChange,
    Journal,
    Record,
    Snapshot,
    Step,
    Verb,
    Verdict,
    Volume,
    judge,
)
from qorch.block.tree import Images, draw
from qorch_storage.plan import Backing, ImageFormat, PoolPlan, PoolType, VolumePlan

PLAN = next(iter(plan_text("[vm.web]\nkernel = 'k'\n").machines.values()))
OLD = Backing(path=Path("/p/old.qcow2"), format=ImageFormat.QCOW2)
NEW = Backing(path=Path("/p/new.qcow2"), format=ImageFormat.QCOW2)
CHANGE = DiskChange(disk="disk0", before=OLD, after=NEW)


def make_snapshot(name, parent=None, image=OLD):
    """A snapshot of one disk."""
    return Snapshot(
        name=name, parent=parent, time=0.0, state="running", disks={"disk0": image}, plan=PLAN
    )


@pytest.mark.parametrize("verb", [Verb.SNAPSHOT, Verb.MOVE, Verb.REVERT, Verb.RESTORE, Verb.BACKUP])
@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("top", [OLD, NEW])
def test_while_qemu_runs_the_graph_decides(verb, step, top):
    """What QEMU has on top is so, whatever was noted; without a job nothing goes on."""
    verdict = judge(
        Journal(verb=verb, step=step, disks=(CHANGE,)),
        running=True,
        tops={"disk0": top.path},
        jobs=False,
    )
    assert verdict is (Verdict.FINISH if top is NEW else Verdict.UNDO)


@pytest.mark.parametrize(
    ("verb", "step", "verdict"),
    [
        (Verb.SNAPSHOT, Step.MAKING, Verdict.UNDO),
        (Verb.SNAPSHOT, Step.MADE, Verdict.FINISH),
        (Verb.REVERT, Step.MAKING, Verdict.UNDO),
        (Verb.REVERT, Step.MADE, Verdict.FINISH),
        (Verb.MOVE, Step.MAKING, Verdict.UNDO),
        (Verb.MOVE, Step.MADE, Verdict.UNDO),
        (Verb.MOVE, Step.PIVOTING, Verdict.FINISH),
        (Verb.MOVE, Step.REPLACED, Verdict.FINISH),
        (Verb.MERGE, Step.MAKING, Verdict.GO_ON),
        (Verb.MERGE, Step.PIVOTING, Verdict.GO_ON),
        (Verb.FLATTEN, Step.MAKING, Verdict.GO_ON),
        (Verb.BACKUP, Step.MADE, Verdict.UNDO),
        (Verb.SERVE, Step.MADE, Verdict.UNDO),
        (Verb.RESTORE, Step.MAKING, Verdict.UNDO),
        (Verb.RESTORE, Step.MADE, Verdict.FINISH),
    ],
)
def test_without_qemu_the_journal_decides(verb, step, verdict):
    """A copy counts once it is noted as complete; an overlay reads the same either way."""
    journal = Journal(verb=verb, step=step, disks=(CHANGE,))
    assert judge(journal, running=False, tops={}, jobs=False) is verdict


@pytest.mark.parametrize(
    ("step", "verdict"), [(Step.MADE, Verdict.UNDO), (Step.PIVOTING, Verdict.FINISH)]
)
def test_memory_counts_once_it_is_complete(step, verdict):
    """Without QEMU, a snapshot whose memory was still being written is none."""
    taken = attrs.evolve(make_snapshot("s1"), memory=Path("/p/s1"))
    journal = Journal(verb=Verb.SNAPSHOT, step=step, disks=(CHANGE,), snapshot=taken)
    assert judge(journal, running=False, tops={}, jobs=False) is verdict


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_thin_snapshots_count_once_all_are_made(step, running, mixed):
    """A disk that is a thin LV stays on top: what was noted decides, unless another disk tells."""
    pool = PoolPlan(name="many", type=PoolType.LVM_THIN, vg="vg", thin_pool="tp")
    plan = VolumePlan(pool="many", name="data.1", format=ImageFormat.RAW, size=1 << 20)
    journal = Journal(
        verb=Verb.SNAPSHOT,
        step=step,
        disks=(CHANGE,) if mixed else (),
        made=(Volume(pool=pool, volume=plan),),
    )
    tops = {"disk0": OLD.path, "disk1": Path("/dev/vg/data")}
    verdict = judge(journal, running=running, tops=tops, jobs=False)
    taken = journal.is_past(Step.PIVOTING) and not (running and mixed)
    assert verdict is (Verdict.FINISH if taken else Verdict.UNDO)


def test_a_removed_snapshot_leaves_its_children_to_its_parent():
    """The tree stays one, and the machine goes on from the parent."""
    record = Record()
    for name, parent in (("a", None), ("b", "a"), ("c", "b")):
        record = record.with_snapshot(make_snapshot(name, parent))
    assert record.current == "c"
    record = record.without_snapshot("b").without_snapshot("c")
    assert [(item.name, item.parent) for item in record.snapshots] == [("a", None)]
    assert record.current == "a"


def test_the_tree_is_drawn():
    """Branches are told apart, parents stand before children."""
    record = Record(
        snapshots=tuple(
            make_snapshot(name, parent)
            for name, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "a"))
        )
    )
    lines = [branch + item.name for branch, item in draw(record)]
    assert lines == ["a", "├─ b", "│  └─ c", "└─ d"]


def test_an_image_with_one_child_is_merged_unless_somebody_needs_it():
    """A base of others, a snapshot's image and one with two children stay."""
    base, low, high, other = (
        Backing(path=Path(f"/p/{name}"), format=ImageFormat.QCOW2)
        for name in ("base", "low", "high", "other")
    )
    images = Images(disk="disk0", active=high, chains=((high, low, base),))
    owned = {low.path, high.path, other.path}
    merge = images.find_merge(owned, set())
    assert merge is not None
    assert (merge.top, merge.base) == (high, low)
    assert images.find_merge(owned, {low.path}) is None
    both = attrs.evolve(images, chains=((high, low, base), (other, low, base)))
    assert both.find_merge(owned, set()) is None
