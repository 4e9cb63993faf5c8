"""Backups of a machine whose guest writes all the time, and what comes back from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from reports import ignore
from writer import (
    check_images,
    make_document,
    read_records,
    start_writing,
    stop_writing,
    verify,
    wait_written,
)

from qorch.block_client import BlockClient
from qorch.client import ClientError
from qorch.testing import Host

pytestmark = pytest.mark.live


def read_backup(directory: Path, id_: str, scratch: Path) -> int:
    """The newest record of a backup: the same on both disks, or one more on the first."""
    images = [directory / id_ / f"disk{index}.qcow2" for index in (0, 1)]
    check_images(*images)
    one, other = (read_records(image, "qcow2", scratch) for image in images)
    assert 0 <= one - other <= 1
    return other


def test_full_and_incremental(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """Each backup of a chain holds all that was written before it, also across a snapshot."""
    qorch_host.up(make_document(bios))
    web, block = qorch_host.machine("web"), BlockClient(qorch_host.client)
    directory = tmp_path / "backups"
    start_writing(web)
    newest = []
    for index in range(3):
        block.create_backup("web", str(directory), incremental=index > 0, report=ignore)
        wait_written(web, 5)
        if index == 0:
            block.create_snapshot("web", "s1", report=ignore)
            wait_written(web, 5)
    rows = block.find_backups("web", str(directory))
    assert [(row["id"], row["parent"]) for row in rows] == [
        ("0001", None),
        ("0002", "0001"),
        ("0003", "0002"),
    ]
    newest = [read_backup(directory, row["id"], tmp_path) for row in rows]
    assert newest == sorted(set(newest))
    block.remove_snapshot("web", "s1", report=ignore)
    block.create_backup("web", str(directory), incremental=True, report=ignore)
    assert read_backup(directory, "0004", tmp_path) >= newest[-1]
    end = stop_writing(web)
    assert set(verify(web).values()) == {end}
    for _ in range(2):  # the second has nothing to copy
        block.create_backup("web", str(directory), incremental=True, report=ignore)
    assert read_backup(directory, "0006", tmp_path) == end
    first, last = ((directory / id_ / "disk1.qcow2").stat().st_blocks for id_ in ("0001", "0006"))
    assert last < first / 4


def test_restore(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """A stopped machine gets what a chain of backups holds."""
    qorch_host.up(make_document(bios))
    web, block, client = (
        qorch_host.machine("web"),
        BlockClient(qorch_host.client),
        qorch_host.client,
    )
    directory = str(tmp_path / "backups")
    start_writing(web)
    stop_writing(web)
    block.create_backup("web", directory, report=ignore)
    start_writing(web)
    second = stop_writing(web)
    block.create_backup("web", directory, incremental=True, report=ignore)
    start_writing(web)
    assert stop_writing(web) > second
    with pytest.raises(ClientError, match="runs"):
        block.restore_backup("web", directory, "0002", report=ignore)
    client.kill_machine("web", report=ignore)
    block.restore_backup("web", directory, "0002", report=ignore)
    client.start_machine("web", report=ignore, wait=180)
    assert set(verify(web).values()) == {second}


def test_without_a_bitmap(qorch_host: Host, bios: Path, tmp_path: Path) -> None:
    """An incremental backup that cannot be is refused, and leaves nothing."""
    qorch_host.up(make_document(bios))
    block, client = BlockClient(qorch_host.client), qorch_host.client
    directory = tmp_path / "backups"
    with pytest.raises(ClientError, match="no backup of web"):
        block.create_backup("web", str(directory), incremental=True, report=ignore)
    client.kill_machine("web", report=ignore)
    block.create_backup("web", str(directory), report=ignore)  # offline
    client.start_machine("web", report=ignore, wait=180)
    with pytest.raises(ClientError, match="not known"):
        block.create_backup("web", str(directory), incremental=True, report=ignore)
    assert [path.name for path in directory.iterdir()] == ["0001"]
