"""The commands of QEMU's block layer as values (qapi/block-core.json, block-export.json, job.json).

Jobs are started so that nothing is decided in our absence: `auto-finalize` is off, so that a job
that replaces an image waits in the state `pending`, in sync, flushed and with the guest's requests
held back, until we have written down what comes next; `auto-dismiss` is off, so that a supervisor
that was away learns how a job ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from qorch.option import Properties, plain

_PATIENT: Properties = {"auto-finalize": False, "auto-dismiss": False}


@attrs.frozen
class Command:
    """One command of QMP and its arguments, plain JSON."""

    name: str
    arguments: Mapping[str, object] = attrs.field(factory=dict)


def _make(command: str, /, **arguments: object) -> Command:
    return Command(
        command,
        {
            key.replace("_", "-"): plain(value)
            for key, value in arguments.items()
            if value is not None
        },
    )


@attrs.frozen
class Action:
    """One action of a `transaction`: all of its actions take effect, or none."""

    type: str
    data: Mapping[str, object]


def transaction(actions: Iterable[Action]) -> Command:
    """All or nothing, at one moment for all disks."""
    return Command("transaction", {"actions": [attrs.asdict(action) for action in actions]})


def as_action(command: Command) -> Action:
    """The action that does what a command does."""
    return Action(command.name, command.arguments)


def snapshot(node: str, overlay: str) -> Command:
    """Put an overlay, a node without a backing node yet, on top of a node."""
    return _make("blockdev-snapshot", node=node, overlay=overlay)


def delete_node(node: str) -> Command:
    """Close a node that nobody uses, and its protocol node with it."""
    return _make("blockdev-del", node_name=node)


def reopen(node: Properties) -> Command:
    """Give a node other options; those that are left out get their default."""
    return Command("blockdev-reopen", {"options": [node]})


def commit(job: str, *, top: str, base: str, active: str, backing_file: Path | None) -> Command:
    """Write what is in the images from `top` down to `base` into `base`.

    `active` is the node that the guest writes to. If that is `top`, `base` takes its place in the
    end; else `backing_file` is what the image above `top` will name as its backing file.
    """
    return _make(
        "block-commit",
        job_id=job,
        device=active,
        top_node=top,
        base_node=base,
        backing_file=None if backing_file is None else str(backing_file),
        **_PATIENT,
    )


def stream(job: str, node: str) -> Command:
    """Copy all that a node has from its backing chain into it, and cut the chain off."""
    return _make("block-stream", job_id=job, device=node, **_PATIENT)


def mirror(job: str, *, node: str, target: str) -> Command:
    """Copy a node with all that lies below it to another one, which takes its place in the end."""
    return _make("blockdev-mirror", job_id=job, device=node, target=target, sync="full", **_PATIENT)


def backup(job: str, *, node: str, target: str, bitmap: str | None) -> Command:
    """Copy a node as it is now, or what a bitmap says has changed; the guest writes on."""
    how = {"sync": "full"} if bitmap is None else {"sync": "bitmap", "bitmap-mode": "never"}
    return _make(
        "blockdev-backup",
        job_id=job,
        device=node,
        target=target,
        bitmap=bitmap,
        **{**_PATIENT, "auto-finalize": True},
        **how,
    )


def fleece(job: str, *, node: str, target: str) -> Command:
    """Keep what the guest overwrites from now on in `target`, an overlay on `node`."""
    return _make(
        "blockdev-backup",
        job_id=job,
        device=node,
        target=target,
        sync="none",
        **{**_PATIENT, "auto-finalize": True},
    )


def add_bitmap(node: str, name: str, *, persistent: bool, disabled: bool = False) -> Command:
    """Record from now on what is written to a node."""
    return _make(
        "block-dirty-bitmap-add", node=node, name=name, persistent=persistent, disabled=disabled
    )


def merge_bitmaps(node: str, target: str, sources: Iterable[tuple[str, str]]) -> Command:
    """Add bitmaps, as pairs of node and name, to one of a node."""
    bitmaps = [{"node": source, "name": name} for source, name in sources]
    return _make("block-dirty-bitmap-merge", node=node, target=target, bitmaps=bitmaps)


def remove_bitmap(node: str, name: str) -> Command:
    """Forget a bitmap."""
    return _make("block-dirty-bitmap-remove", node=node, name=name)


def resize(node: str, size: int) -> Command:
    """Make a node's image `size` bytes large; the guest is told."""
    return _make("block_resize", node_name=node, size=size)


def flush(node: str) -> Command:
    """Write what QEMU holds back of a node; QMP has no command for it, but people's monitor has."""
    return Command("human-monitor-command", {"command-line": f"qemu-io {node} flush"})


def complete_job(job: str) -> Command:
    """Let a job that is ready come to its end."""
    return _make("job-complete", id=job)


def finalize_job(job: str) -> Command:
    """Let a job that is pending put its result in place."""
    return _make("job-finalize", id=job)


def dismiss_job(job: str) -> Command:
    """Forget a job that has concluded."""
    return _make("job-dismiss", id=job)


def cancel_job(job: str) -> Command:
    """End a job without its result (`job-cancel` always forces, qapi/job.json)."""
    return _make("job-cancel", id=job)


def start_nbd_server(socket: Path) -> Command:
    """Serve exports on a Unix socket."""
    address = {"type": "unix", "data": {"path": str(socket)}}
    return _make("nbd-server-start", addr=address)


def stop_nbd_server() -> Command:
    """Serve no longer."""
    return _make("nbd-server-stop")


def add_export(id_: str, node: str, *, name: str, bitmaps: Iterable[tuple[str, str]]) -> Command:
    """Serve a node read-only under a name, with bitmaps as `qemu:dirty-bitmap:NAME`."""
    return _make(
        "block-export-add",
        id=id_,
        type="nbd",
        node_name=node,
        name=name,
        bitmaps=[{"node": source, "name": bitmap} for source, bitmap in bitmaps],
    )


def remove_export(id_: str) -> Command:
    """Serve it no longer, whoever is connected."""
    return _make("block-export-del", id=id_, mode="hard")


_OLD_LIMITS = {  # ThrottleLimits' names, and those of block_set_io_throttle (qapi/block-core.json)
    "bps_total": "bps",
    "bps_read": "bps_rd",
    "bps_write": "bps_wr",
    "iops_total": "iops",
    "iops_read": "iops_rd",
    "iops_write": "iops_wr",
}
LIMITS = (
    *_OLD_LIMITS,
    *(f"{name}_max" for name in _OLD_LIMITS),
    *(f"{name}_max_length" for name in _OLD_LIMITS),
    "iops_size",
)


def set_group_limits(group: str, limits: Mapping[str, int]) -> Command:
    """Give a throttle group other limits; what is not named has none."""
    value = {name.replace("_", "-"): limits.get(name, 0) for name in _OLD_LIMITS}
    value |= {name.replace("_", "-"): number for name, number in limits.items()}
    return _make("qom-set", path=f"/objects/{group}", property="limits", value=value)


def set_limits(device: str, limits: Mapping[str, int]) -> Command:
    """Give a device that is in no throttle group limits of its own; what is not named has none."""
    values = dict.fromkeys(_OLD_LIMITS.values(), 0)
    for name, number in limits.items():
        stem = next((stem for stem in _OLD_LIMITS if name.startswith(stem)), name)
        values[_OLD_LIMITS.get(stem, stem) + name.removeprefix(stem)] = number
    return Command("block_set_io_throttle", {"id": device, **values})
