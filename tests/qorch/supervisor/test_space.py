"""Guests that lack space: each disk is told of, whatever becomes of the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import attrs

from qorch.supervisor.block.space import Space
from qorch.supervisor.events import Events
from qorch_storage.plan import PoolPlan, PoolType
from qorch_storage.policy import ExtendPolicy

MIB = 1 << 20


@attrs.define(eq=False)
class FakeMonitor:
    """A QEMU whose disks all lack space."""

    paths: list[Path]
    done: list[str] = attrs.field(factory=list)

    async def execute(self, command, _arguments=None):
        """Answer a query; note what is none."""
        images = [{"filename": str(path), "virtual-size": 64 * MIB} for path in self.paths]
        match command:
            case "query-block":
                return [
                    {
                        "qdev": f"disk{number}-dev",
                        "io-status": "nospace",
                        "inserted": {"image": image},
                    }
                    for number, image in enumerate(images)
                ]
            case "query-named-block-nodes":
                return [
                    {"node-name": f"disk{number}", "drv": "raw", "ro": False, "image": image}
                    for number, image in enumerate(images)
                ]
        self.done.append(command)
        return {}


async def test_one_that_cannot_be_extended_does_not_hide_the_others(tmp_path):
    """A volume group that is gone is an event of its own; the guest waits, and `show` knows why."""
    here = tmp_path / "here.raw"
    here.write_bytes(b"x" * MIB)
    policy = ExtendPolicy(step=MIB)
    pools = {
        "gone": PoolPlan(name="gone", type=PoolType.LVM, vg="qorch-no-such", extend=policy),
        "files": PoolPlan(name="files", path=tmp_path),
    }
    monitor = FakeMonitor([Path("/dev/qorch-no-such/a"), here])
    machines = {"web": SimpleNamespace(monitor=monitor)}
    events = Events()
    space = Space(machines, events, lambda: pools)
    with events.listen("web") as told:
        await space.look("web")
        first, second = await told.receive(), await told.receive()
    assert (first["event"], first["disk"]) == ("SPACE_UNKNOWN", "disk0")
    assert "qorch-no-such" in first["reason"] or "lvm2" in first["reason"]
    assert (second["event"], second["disk"], second["pool"]) == ("NO_SPACE", "disk1", "files")
    assert [lack["volume"] for lack in space.find("web")] == ["here.raw"]
    assert monitor.done == []


async def test_a_directory_that_is_gone_is_told(tmp_path):
    """A pool that was removed under its machine ends nobody's watching."""
    gone = tmp_path / "gone"
    pools = {"files": PoolPlan(name="files", path=gone)}
    monitor = FakeMonitor([gone / "a.raw"])
    events = Events()
    space = Space({"web": SimpleNamespace(monitor=monitor)}, events, lambda: pools)
    with events.listen("web") as told:
        await space.look("web")
        event = await told.receive()
    assert event["event"] == "SPACE_UNKNOWN"
    assert "No such file" in event["reason"]
